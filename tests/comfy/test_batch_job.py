"""The nodes for batch jobs: the command's tokens, cancelled jobs that go on, and lists for stock nodes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amused_core.cli import main
from tests.comfy import graphs, runs
from tests.comfy.harness import GraphError

ROWS = [
    {"id": "a", "prompt": "a red apple"},
    {"id": "b", "prompt": "a blue dog", "negative_prompt": "red", "seed": 7},
    {"id": "c", "prompt": "a {red|green} cat", "cfg": 2.0},
    {"id": "d", "prompt": "a red apple", "width": 40, "height": 24},
    {"id": "e", "prompt": "a house", "image": "start.png", "strength": 0.7},
    {"id": "f", "prompt": "a house", "image": "start.png", "mask": "mask.png"},
    {"id": "g", "prompt": "a tree", "cfg_every": 2, "int8": True},
    {"id": "h", "prompt": "a tree", "tag": "passes through"},
]
STEPS, CFG = 4, 3.0


@pytest.fixture
def rows(comfy):
    """A table in ComfyUI's input folder, and the pictures that it names; the output folder is emptied."""
    shutil.rmtree(comfy.models / "output" / "amused", ignore_errors=True)
    folder = comfy.models / "input"
    Image.fromarray((graphs.picture()[0] * 255).byte().numpy()).save(folder / "start.png")
    Image.fromarray((graphs.block_mask()[0] * 255).byte().numpy()).save(folder / "mask.png")
    return write(folder / "rows.jsonl", ROWS)


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def batch(comfy, loader, **inputs):
    """AmusedBatch, 4 steps and guidance 3 unless told otherwise."""
    wires = {"model": loader, "clip": (loader, 1), "vae": (loader, 2), "file": "rows.jsonl", "text": ""}
    return comfy.node("AmusedBatch", **(comfy.defaults("AmusedBatch") | wires | {"steps": STEPS, "cfg": CFG} | inputs))


def folder(comfy, number=1) -> Path:
    return comfy.models / "output" / "amused" / f"batch_{number:05}"


def records(out: Path) -> list[dict]:
    """The results without what differs between two runs."""
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def command(comfy, rows: Path, out: Path, *words: str) -> Path:
    """`amused batch` on the same rows."""
    settings = ["--set", f"steps={STEPS}", f"cfg={CFG}", "--device", "cpu"]
    assert main(["batch", str(rows), str(out), "--model", str(comfy.models / "amused" / "tiny"), *settings, *words]) == 0
    return out


@pytest.mark.parametrize("size", [0, 3])
def test_the_same_pictures_as_the_command(comfy, rows, tmp_path, size):
    """Of every kind of row, and in batches of any size."""
    expected = command(comfy, rows, tmp_path / "out")
    node = batch(comfy, graphs.load(comfy), batch_size=size)
    images, results = comfy.run(node, (node, 1))
    out = folder(comfy)
    assert Path(results) == out / "results.jsonl"
    assert [record["id"] for record in records(out)] == [row["id"] for row in ROWS]
    assert records(out) == records(expected)
    for row in ROWS:
        name = f"{row['id']}.png"
        assert np.array_equal(pixels(out / name), pixels(expected / name)), name
    assert images.shape == (7, 32, 32, 3) and torch.equal((images[-1] * 255).byte(), torch.from_numpy(pixels(out / "h.png")))
