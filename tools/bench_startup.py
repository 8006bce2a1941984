"""Measures what the pack adds to ComfyUI's start: CPU seconds, and the packages that it brings in."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# What is imported before the clock starts, ComfyUI imports itself.
MEASURE = """
import asyncio, json, sys, time
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
import utils.install_util, comfy.utils, comfy_config.config_parser, execution, nodes, latent_preview, node_helpers
from comfy_api.latest import io
before, start = set(sys.modules), time.process_time()
ok = asyncio.run(nodes.load_custom_node(sys.argv[2]))
seconds = time.process_time() - start
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(json.dumps({"ok": ok, "seconds": seconds, "packages": sorted(filter(str.isidentifier, new))}))
"""


def start(comfyui: Path) -> dict[str, Any]:
    """Loads the pack in a fresh process: whether it loads, CPU seconds, and the packages imported for it."""
    command = [sys.executable, "-c", MEASURE, str(comfyui.resolve()), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if run.returncode:
        raise RuntimeError(run.stderr)
    return json.loads(run.stdout.strip().splitlines()[-1])


def main() -> None:
    """Command line: the ComfyUI folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comfyui", type=Path, help="the ComfyUI folder")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    starts = [start(arguments.comfyui) for _ in range(arguments.repeats)]
    seconds = median(found["seconds"] for found in starts)
    print(f"The pack adds {seconds:.2f} CPU s to ComfyUI's start (median of {len(starts)}).")
    print(f"Packages that it brings in: {', '.join(starts[0]['packages'])}.")


if __name__ == "__main__":
    main()
