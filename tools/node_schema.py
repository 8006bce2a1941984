"""What the nodes promise to saved workflows, and what a change of it would break.

`promises` reads it from a node's entry in ComfyUI's /object_info; tests/golden/nodes.json keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "nodes.json"
PREFIX = "Amused"
KEPT = ("default", "min", "max", "step", "options", "control_after_generate")
# Lists of what lies on a disk differ from machine to machine.
FROM_DISK = {
    ("AmusedLoader", "model"),
    ("AmusedLoraLoader", "lora_name"),
    ("AmusedLoadTokens", "file"),
    ("AmusedBatch", "file"),
    ("AmusedRows", "file"),
}

Promises = dict[str, dict[str, list[dict[str, Any]]]]


class Change(NamedTuple):
    """A difference in words, and whether saved workflows stop working or draw something else."""

    text: str
    breaking: bool

    def __str__(self) -> str:
        return f"{'BREAKS WORKFLOWS' if self.breaking else 'harmless'}: {self.text}"


def promises(object_info: dict[str, Any]) -> Promises:
    """Node id -> inputs and outputs in their order, for every node of this pack."""
    return {
        name: {"inputs": list(_inputs(name, info)), "outputs": outputs(info)}
        for name, info in sorted(object_info.items())
        if name.startswith(PREFIX)
    }


def inputs(info: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], bool]]:
    """(name, type, options, optional) of each input, in order; a type that is a list of values counts as COMBO."""
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, []):
            kind, *rest = info["input"][group][name]
            settings = dict(rest[0]) if rest else {}
            if isinstance(kind, (list, tuple)):
                kind, settings = "COMBO", {"options": list(kind), **settings}
            yield name, kind, settings, group == "optional"


def outputs(info: dict[str, Any]) -> list[dict[str, str]]:
    """Name and type of each output."""
    return [{"name": name, "type": kind} for name, kind in zip(info["output_name"], info["output"], strict=True)]


def _inputs(node: str, info: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, kind, settings, optional in inputs(info):
        kept = {key: settings[key] for key in KEPT if settings.get(key) is not None}
        if (node, name) in FROM_DISK:
            kept.pop("options", None)
        yield {"name": name, "type": kind, "optional": optional, **kept}


def write(golden: Promises) -> None:
    """Writes the golden file, one line for each input and output."""
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(dump(golden), encoding="utf-8")


def read() -> Promises:
    """The golden file."""
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def dump(golden: Promises) -> str:
    """JSON with one line for each input and output, so that a diff shows what changed."""
    nodes = []
    for name, sockets in golden.items():
        parts = []
        for side, entries in sockets.items():
            lines = ",\n".join(f"      {json.dumps(entry)}" for entry in entries)
            parts.append(f'    "{side}": [\n{lines}\n    ]' if entries else f'    "{side}": []')
        nodes.append(f'  "{name}": {{\n' + ",\n".join(parts) + "\n  }")
    return "{\n" + ",\n".join(nodes) + "\n}\n"


def changes(old: Promises, new: Promises) -> list[Change]:
    """Every difference between two sets of promises."""
    found = [Change(f"{node} is gone", True) for node in old.keys() - new.keys()]
    found += [Change(f"{node} is new", False) for node in new.keys() - old.keys()]
    for node in sorted(old.keys() & new.keys()):
        differences = [*_input_changes(old[node]["inputs"], new[node]["inputs"])]
        differences += _output_changes(old[node]["outputs"], new[node]["outputs"])
        found += [Change(f"{node}: {text}", breaking) for text, breaking in differences]
    return sorted(found, key=lambda change: (not change.breaking, change.text))


def _input_changes(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[Change]:
    before, after = {entry["name"]: entry for entry in old}, {entry["name"]: entry for entry in new}
    kept = [name for name in after if name in before]
    for name in before.keys() - after.keys():
        yield Change(f"input {name!r} is gone", True)
    if kept != [name for name in before if name in after]:
        yield Change(f"the inputs stand in another order: {', '.join(after)}", True)
    for place, (name, entry) in enumerate(after.items()):
        if name not in before:
            inserted = any(later in before for later in list(after)[place:])
            yield _added(entry, inserted)
        else:
            for text, breaking in _field_changes(before[name], entry):
                yield Change(f"input {name!r}: {text}", breaking)


def _added(entry: dict[str, Any], inserted: bool) -> Change:
    """A new input is harmless when it is optional, has a default if it has a widget, and stands behind all others."""
    name, faults = f"input {entry['name']!r} is new", []
    if inserted:
        faults.append("stands before older ones, whose saved values would shift")
    if not entry["optional"]:
        faults.append("is required, so graphs saved without it are refused")
    elif "default" not in entry and entry["type"] in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
        faults.append("has no default")
    return Change(f"{name} and {', and '.join(faults)}" if faults else name, bool(faults))


def _field_changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    for key in ("type", "optional", *KEPT):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if key == "options":
            yield from _option_changes(before or [], after or [])
            continue
        breaking = {
            "type": True,
            "control_after_generate": True,
            "optional": not after,
            # Graphs may leave out an optional input, and would then draw something else.
            "default": old["optional"],
            "min": after is not None and (before is None or after > before),
            "max": after is not None and (before is None or after < before),
            "step": False,
        }[key]
        yield Change(f"{key} was {before!r}, is {after!r}", breaking)


def _option_changes(old: list[Any], new: list[Any]) -> Iterator[Change]:
    gone, added = [o for o in old if o not in new], [o for o in new if o not in old]
    if gone:
        yield Change(f"options gone: {', '.join(map(str, gone))}", True)
    if added:
        yield Change(f"options new: {', '.join(map(str, added))}", False)
    if not gone and not added:
        yield Change(f"options stand in another order: {', '.join(map(str, new))}", False)


def _output_changes(old: list[dict[str, str]], new: list[dict[str, str]]) -> Iterator[Change]:
    for index, entry in enumerate(old):
        if index >= len(new):
            yield Change(f"output {index} ({entry['name']}) is gone", True)
        elif new[index]["type"] != entry["type"]:
            yield Change(f"output {index} was {entry['type']}, is {new[index]['type']}", True)
        elif new[index]["name"] != entry["name"]:
            yield Change(f"output {index} was called {entry['name']!r}, is called {new[index]['name']!r}", False)
    for index in range(len(old), len(new)):
        yield Change(f"output {index} ({new[index]['name']}) is new", False)
