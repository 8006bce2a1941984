"""Runs workflows/api/text_to_image.json in a real ComfyUI and writes output/demo.png."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from comfy_server import ComfyServer, end_cleanly

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Command line: the ComfyUI folder; further arguments go to its main.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("--workflow", type=Path, default=ROOT / "workflows" / "api" / "text_to_image.json")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "demo.png")
    parser.add_argument("--python", required=True, help="the Python that runs ComfyUI")
    arguments, more = parser.parse_known_args()
    end_cleanly()
    graph = json.loads(arguments.workflow.read_text())
    print(f"Starting ComfyUI in {arguments.comfyui} ...", flush=True)
    with ComfyServer(arguments.comfyui, arguments.python, more) as server:
        print(f"Running {arguments.workflow.name} ...", flush=True)
        picture = server.pictures(server.run(graph))[0]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(picture)
    print(f"Wrote {arguments.output.relative_to(ROOT)}: the embedded model drew it inside ComfyUI.")


if __name__ == "__main__":
    main()
