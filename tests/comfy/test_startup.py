"""What the pack brings into ComfyUI's start."""

from __future__ import annotations

import os
from pathlib import Path

import bench_startup


def test_heavy_packages_wait_until_a_model_is_loaded(comfy):
    found = bench_startup.start(Path(os.environ["COMFYUI_DIR"]))
    assert found["ok"]
    assert not {"diffusers", "xformers", "peft", "accelerate"} & set(found["packages"]), found["packages"]
