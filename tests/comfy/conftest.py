"""One ComfyUI with the pack and tiny models for all tests of this folder.

The environment variable COMFYUI_DIR names the ComfyUI to use; without it these tests are skipped.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.comfy import batches, graphs
from tests.comfy.harness import COMFYUI_DIR, Comfy
from tests.tiny import write_tiny_checkpoint


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests of this folder where there is no ComfyUI."""
    if COMFYUI_DIR:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="COMFYUI_DIR is not set: no ComfyUI to test against"))


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Comfy:
    """ComfyUI with the pack and three tiny random models: "tiny", "tiny512" (odd grids are padded), "tiny8"."""
    models = tmp_path_factory.mktemp("models")
    write_tiny_checkpoint(models / "amused" / "tiny", downsample=False, seed=0)
    write_tiny_checkpoint(models / "amused" / "tiny512", downsample=True, seed=1)
    write_tiny_checkpoint(models / "diffusers" / "tiny8", downsample=False, seed=2, factor=8)
    running = Comfy(models)
    # Runs are compared to the last bit, which depends on torch's number of threads, and that on what else runs here.
    running.module("amused_core.networks.threads")._others = lambda: 0
    return running


@pytest.fixture(scope="session")
def object_info(comfy: Comfy) -> dict[str, Any]:
    """What ComfyUI's /object_info says of the pack's nodes."""
    ours = {name: node for name, node in comfy.nodes.NODE_CLASS_MAPPINGS.items() if name.startswith("Amused")}
    return json.loads(json.dumps({name: node.GET_NODE_INFO_V1() for name, node in ours.items()}))


@pytest.fixture
def start(comfy: Comfy) -> tuple[graphs.Node, graphs.Node, graphs.Node]:
    """A loader, prompts and an empty latent."""
    loader = graphs.load(comfy)
    return loader, graphs.prompts(comfy, loader), graphs.empty(comfy, loader)


@pytest.fixture
def rows(comfy: Comfy) -> Path:
    """A table in ComfyUI's input folder, and the pictures that it names; the output folder is emptied."""
    shutil.rmtree(comfy.models / "output" / "amused", ignore_errors=True)
    folder = comfy.models / "input"
    Image.fromarray((graphs.picture()[0] * 255).byte().numpy()).save(folder / "start.png")
    Image.fromarray((graphs.block_mask()[0] * 255).byte().numpy()).save(folder / "mask.png")
    return batches.write(folder / "rows.jsonl", batches.ROWS)
