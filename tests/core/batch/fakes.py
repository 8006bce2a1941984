"""A backend that draws at once, and tables to draw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amused_core import AmusedError
from amused_core.batch.backend import Drawn
from amused_core.batch.job import Job
from amused_core.batch.pictures import Expansion, Picture, expand
from amused_core.batch.rows import Row


class FakeBackend:
    """Tokens depend on prompt and seed only; the prompt "bad" is refused alone, "worse" only when it is drawn."""

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.batches: list[list[int]] = []

    def identity(self) -> dict[str, Any]:
        return {"model": self.name}

    def group(self, picture: Picture) -> Any:
        if picture.arguments["prompt"] == "bad":
            raise AmusedError("prompt is 'bad'.")
        return picture.arguments.get("width", 16)

    def batch_size(self, picture: Picture) -> int:
        return 4

    def draw(self, pictures: Sequence[Picture]) -> Drawn:
        if any(picture.arguments["prompt"] == "worse" for picture in pictures):
            raise AmusedError("prompt is 'worse'.")
        self.batches.append([picture.number for picture in pictures])
        tokens = np.stack([grid(picture) for picture in pictures])
        settings = [{"model": self.name, **picture.arguments} for picture in pictures]
        images = np.repeat(np.repeat(tokens, 8, 1), 8, 2)[..., None].repeat(3, -1) / 255.0
        return Drawn(torch.from_numpy(tokens), settings, lambda: torch.from_numpy(images.astype(np.float32)))


def grid(picture: Picture) -> np.ndarray:
    """int64 [2,w] below 256."""
    text = f"{picture.arguments['prompt']} {picture.arguments['seed']}"
    size = 2 * (picture.arguments.get("width", 16) // 8)
    digest = hashlib.sha256(text.encode()).digest() * size
    return np.frombuffer(digest[:size], np.uint8).reshape(2, -1).astype(np.int64)


def table(prompts: Sequence[str], **columns: Any) -> list[Row]:
    """A row for each prompt; further columns are shared."""
    return [Row(number, f"line {number + 1}", {"prompt": prompt, **columns}) for number, prompt in enumerate(prompts)]


def job(rows: Sequence[Row], out: Path | str, expansion: Expansion | None = None, **options: Any) -> Job:
    """A job of rows in memory."""
    chosen = expansion or Expansion()
    ending = chosen.layout.ending
    return Job(lambda: expand(rows, chosen), str(out), {}, **{"ending": ending, "part": 8, **options})


def outcome(out: Path) -> dict[str, Any]:
    """All that a job leaves but the time it took: name of a file -> content."""
    files: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if not path.is_file() or name.startswith(".job/") or name.startswith("results"):
            continue
        files[name] = path.read_bytes()
    files["results"] = sorted(records(out), key=lambda record: record["number"])
    return files


def records(out: Path) -> list[dict[str, Any]]:
    """The results without seconds."""
    found = []
    for path in sorted(out.glob("results*.jsonl")):
        found += [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in found]
