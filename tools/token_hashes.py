"""Whether every example workflow draws the same tokens in several ComfyUIs: prints a table of hashes.

    python tools/token_hashes.py COMFYUI [COMFYUI ...] [-- arguments of main.py]

Each ComfyUI is run by an environment of its own (one that `make` made, or `.venv` or `venv` in it or beside it), else
by this Python.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
from comfy_server import ComfyServer, Graph

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = ROOT / "workflows" / "api"
# Nodes whose first output is a LATENT worth comparing.
LATENTS = {"AmusedSampler", "AmusedTrace", "AmusedVQEncode", "AmusedInpaintMask"}


def with_tokens(graph: Graph) -> Graph:
    """A graph that also saves the tokens of each node in `LATENTS`, under the node's id."""
    sources = [node for node, entry in graph.items() if entry["class_type"] in LATENTS]
    saves = {
        f"9{node}": {
            "class_type": "AmusedSaveTokens",
            "inputs": {"samples": [node, 0], "filename_prefix": f"tokens/{node}"},
        }
        for node in sources
    }
    return {**graph, **saves}


def hashes(server: ComfyServer, names: list[str]) -> dict[str, str]:
    """Name of a workflow and a node in it -> hash of the node's tokens, with their shape."""
    found = {}
    for name in names:
        folder = server.files / "output" / "tokens"
        server.run(with_tokens(json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))), timeout=1800)
        # A node that runs for each item of a list saves several; *aMUSEd batch* hands on images alone.
        for path in sorted(
            folder.glob("*.npy"), key=lambda path: [int(part) for part in re.findall(r"\d+", path.stem)]
        ):
            tokens = np.load(path)
            shape = "x".join(map(str, tokens.shape))
            found[f"{name} {path.stem}"] = f"{hashlib.sha256(tokens.tobytes()).hexdigest()[:12]} {shape}"
            path.unlink()
    return found


def python_of(comfyui: Path) -> str:
    """The Python of a ComfyUI's own environment, or this one."""
    layer = ROOT / ".comfyui" / f"layer{comfyui}".replace("/", "_")
    places = (layer, comfyui / ".venv", comfyui / "venv", comfyui.parent / "venv")
    return next((str(p / "bin" / "python") for p in places if (p / "bin" / "python").exists()), sys.executable)


def version_of(comfyui: Path) -> str:
    """As ComfyUI says."""
    text = (comfyui / "comfyui_version.py").read_text()
    return re.search(r'__version__ = "(.*)"', text)[1]


def main() -> None:
    """Prints a row for each node; ends with 1 where ComfyUIs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comfyui", type=Path, nargs="+", help="folders with main.py")
    parser.add_argument("--workflow", action="append", help="only this one; may be repeated")
    arguments, more = parser.parse_known_args()
    names = arguments.workflow or sorted(path.stem for path in WORKFLOWS.glob("*.json"))
    table: dict[str, list[str]] = {}
    for folder in arguments.comfyui:
        with ComfyServer(folder, python_of(folder.resolve()), ["--cpu", *(m for m in more if m != "--")]) as server:
            for key, value in hashes(server, names).items():
                table.setdefault(key, []).append(value)
    print("| workflow, node | " + " | ".join(map(version_of, arguments.comfyui)) + " |")
    print("|---|" + "---|" * len(arguments.comfyui))
    for key, values in table.items():
        print(f"| {key} | " + " | ".join(values) + " |")
    whole = all(len(values) == len(arguments.comfyui) and len(set(values)) == 1 for values in table.values())
    print(f"\n{len(table)} grids of tokens, {'all equal' if whole else 'NOT all equal'}.")
    sys.exit(not whole)


if __name__ == "__main__":
    main()
