"""Batch jobs of a graph and of the command on the same rows, for tests of both nodes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from amused_core.cli import main

ROWS = [
    {"id": "a", "prompt": "a red apple"},
    {"id": "b", "prompt": "a blue dog", "negative_prompt": "red", "seed": 7},
    {"id": "c", "prompt": "a {red|green} cat", "cfg": 2.0},
    {"id": "d", "prompt": "a red apple", "width": 40, "height": 24},
    {"id": "e", "prompt": "a house", "image": "start.png", "strength": 0.7},
    {"id": "f", "prompt": "a house", "image": "start.png", "mask": "mask.png"},
    {"id": "g", "prompt": "a tree", "cfg_every": 2, "int8": True},
    {"id": "h", "prompt": "a tree", "cfg": 0.5, "tag": "passes through"},
]
STEPS, CFG = 4, 3.0


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
    assert (
        main(["batch", str(rows), str(out), "--model", str(comfy.models / "amused" / "tiny"), *settings, *words]) == 0
    )
    return out


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.png")}
