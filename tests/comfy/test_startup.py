"""What the pack adds to ComfyUI's start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Everything imported before the clock starts is imported by ComfyUI itself.
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
new = sorted({name.split(".")[0] for name in set(sys.modules) - before})
print(json.dumps({"ok": ok, "seconds": seconds, "new": new}))
"""


@pytest.fixture(scope="module")
def start(comfy):
    """Result of loading the pack in a fresh process."""
    command = [sys.executable, "-c", MEASURE, os.environ["COMFYUI_DIR"], str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=comfy.models, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.strip().splitlines()[-1])


def test_start_up_is_cheap(start):
    assert start["ok"]
    assert start["seconds"] < 0.3


def test_heavy_packages_wait_until_a_model_is_loaded(start):
    assert not {"diffusers", "xformers", "peft", "accelerate"} & set(start["new"]), start["new"]
