"""Writes what follows from the nodes' schemas, after they have changed.

    python tools/describe_nodes.py COMFYUI_FOLDER

writes tests/golden/nodes.json, the English texts in locales/en/ and the tables of the pages in web/docs/, and names the
texts that the other languages lack. A change that breaks saved workflows is refused; `--breaking` writes it anyway.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import node_schema
import node_texts
from comfy_server import ComfyServer


def accept(object_info: dict[str, Any], breaking: bool) -> bool:
    """Writes the golden file unless saved workflows would break; says what changed."""
    new = node_schema.promises(object_info)
    found = node_schema.changes(node_schema.read(), new) if node_schema.GOLDEN.exists() else []
    print("\n".join(map(str, found)) or "The nodes promise what they did.")
    if any(change.breaking for change in found) and not breaking:
        print("Nothing written: append optional inputs with defaults instead, or say --breaking.")
        return False
    node_schema.write(new)
    return True


def write_english(object_info: dict[str, Any]) -> None:
    """locales/en/ from the schemas."""
    node_texts.write("en", "nodeDefs", node_texts.english(object_info))
    node_texts.write("en", "main", node_texts.categories(object_info))


def write_tables(object_info: dict[str, Any], language: str) -> list[str]:
    """Fills in the tables of all pages of a language; returns what is in the way."""
    texts = node_texts.read(language, "nodeDefs")
    faults = node_texts.differences(node_texts.english(object_info), texts)
    for node in node_schema.promises(object_info) if language in node_texts.PAGE_LANGUAGES else ():
        file = node_texts.page_file(node, language)
        if not file.exists():
            faults.append(f"no page {file.name} of {node}")
        elif not any(f" {node}." in fault for fault in faults):
            page = file.read_text(encoding="utf-8")
            filled = node_texts.with_tables(page, object_info[node], texts[node], language)
            file.write_text(filled, encoding="utf-8")
    return [f"{language}: {fault}" for fault in faults]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Writes what follows from the nodes' schemas.")
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("--breaking", action="store_true", help="write also what breaks saved workflows")
    arguments = parser.parse_args()
    with ComfyServer(arguments.comfyui) as server:
        object_info = server.get("/object_info")
    if not accept(object_info, arguments.breaking):
        sys.exit(1)
    write_english(object_info)
    faults = [fault for language in node_texts.LANGUAGES for fault in write_tables(object_info, language)]
    print("\n".join(faults) or "All languages are complete.")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
