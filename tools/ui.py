"""Starts ComfyUI with this pack and leaves it running; prints its address. Ctrl-C ends it."""

from __future__ import annotations

import argparse
from pathlib import Path

from comfy_server import ComfyServer, end_cleanly


def main() -> None:
    """Command line: the ComfyUI folder; further arguments go to its main.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("--python", required=True, help="the Python that runs ComfyUI")
    parser.add_argument("--port", type=int, default=8188)
    arguments, more = parser.parse_known_args()
    end_cleanly()
    print("Starting ComfyUI ...", flush=True)
    with ComfyServer(arguments.comfyui, arguments.python, more, keep_files=True, port=arguments.port) as server:
        print(f"ComfyUI runs at {server.address}   (Templates > aMUSEd has the examples; Ctrl-C ends it)", flush=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            print("\nEnded.")


if __name__ == "__main__":
    main()
