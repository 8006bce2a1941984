"""Finds what is wrong with workflows in API format, by ComfyUI's own list of its nodes.

    python tools/lint_workflows.py COMFYUI_FOLDER [FILE.json ...]

checks the files, or all of workflows/api/, against a running ComfyUI. It is stricter than ComfyUI itself, which turns
"12" into 12, ignores inputs that a node does not have, and up to 0.3.75 accepts any value for the lists of V3 nodes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from node_schema import inputs

FOLDER = Path(__file__).resolve().parents[1] / "workflows" / "api"
VALUES: dict[str, tuple[type, ...]] = {"INT": (int,), "FLOAT": (int, float), "STRING": (str,), "BOOLEAN": (bool,)}

Graph = dict[str, dict[str, Any]]


def lint(graph: Graph, object_info: dict[str, Any]) -> list[str]:
    """Everything wrong with a graph, one sentence each; none where it is fit to be queued.

    Args:
        graph: API format: node id -> {"class_type", "inputs"}.
        object_info: ComfyUI's answer to GET /object_info.
    """
    found = []
    for node, entry in graph.items():
        kind = entry.get("class_type")
        faults = _node(entry.get("inputs", {}), object_info[kind], graph, object_info) if kind in object_info else None
        where = f"node {node} ({kind})"
        found += [f"{where}: unknown node"] if faults is None else [f"{where}: {fault}" for fault in faults]
    if not any(object_info.get(entry.get("class_type"), {}).get("output_node") for entry in graph.values()):
        found.append("no node saves or shows anything")
    return found


def _node(given: dict[str, Any], info: dict[str, Any], graph: Graph, object_info: dict[str, Any]) -> Iterator[str]:
    known = {name: (kind, settings, optional) for name, kind, settings, optional in inputs(info)}
    for name in [name for name in given if name not in known]:
        yield f"unknown input {name!r}; it has {', '.join(known)}"
    for name, (kind, settings, optional) in known.items():
        if name not in given:
            if not optional:
                yield f"input {name!r} is missing"
        elif isinstance(given[name], list):
            yield from (f"input {name!r} {fault}" for fault in _link(given[name], kind, graph, object_info))
        else:
            yield from (f"input {name!r} {fault}" for fault in _value(given[name], kind, settings))


def _link(link: list[Any], kind: str, graph: Graph, object_info: dict[str, Any]) -> Iterator[str]:
    if len(link) != 2 or not isinstance(link[0], str) or not isinstance(link[1], int):
        yield f"is {link}; a link is [node id, output number]"
        return
    source, slot = link
    if source not in graph:
        yield f"is linked to node {source}, which is not there"
        return
    outputs = object_info.get(graph[source].get("class_type"), {}).get("output")
    if outputs is None:
        return  # An unknown node, reported in its own place.
    if not 0 <= slot < len(outputs):
        yield f"is linked to output {slot} of node {source}, which has {len(outputs)}"
    elif not _fits(outputs[slot], kind):
        yield f"wants {kind}, but output {slot} of node {source} is {outputs[slot]}"


def _fits(given: Any, wanted: str) -> bool:
    """ComfyUI's rule: the two have a type in common; * is any, and a list of values is a COMBO."""
    given = given if isinstance(given, str) else "COMBO"
    types = [{part.strip() for part in text.split(",")} for text in (given, wanted)]
    return "*" in types[0] | types[1] or bool(types[0] & types[1])


def _value(value: Any, kind: str, settings: dict[str, Any]) -> Iterator[str]:
    if kind == "COMBO":
        options = settings.get("options")
        if options is not None and value not in options:
            yield f"is {value!r}; allowed are {', '.join(map(str, options))}"
    elif kind in VALUES:
        if not isinstance(value, VALUES[kind]) or (isinstance(value, bool) and kind != "BOOLEAN"):
            yield f"is {value!r}, which is no {kind}"
        elif kind in ("INT", "FLOAT"):
            low, high = settings.get("min", -math.inf), settings.get("max", math.inf)
            if not low <= value <= high:
                yield f"is {value}; allowed are {low} to {high}"
    elif "*" not in kind:
        yield f"is {value!r}; it wants a link of type {kind}"


def main() -> None:
    """Command line: the ComfyUI folder, and files (all shipped ones when none is given)."""
    from comfy_server import ComfyServer

    parser = argparse.ArgumentParser(description="Finds what is wrong with workflows in API format.")
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    with ComfyServer(arguments.comfyui) as server:
        object_info = server.get("/object_info")
    files = arguments.files or sorted(FOLDER.glob("*.json"))
    found = [f"{file}: {fault}" for file in files for fault in lint(json.loads(file.read_text("utf-8")), object_info)]
    print("\n".join(found) or f"{len(files)} workflows, nothing wrong")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
