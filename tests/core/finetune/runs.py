"""Settings, pictures and comparisons that the tests of fine-tuning share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from amused_core.finetune.run import TrainingRun
from amused_core.finetune.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[3]
EVERYWHERE = ("to_q", "to_k", "to_v", "to_out.0", "proj", "net.2", "channelwise_linear_2", "conv1", "conv2")
MakeRun = Callable[..., TrainingRun]
QUICK = TrainingSettings(steps=6, learning_rate=1e-2, batch=2, rank=4)


def weights(run: TrainingRun) -> list[torch.Tensor]:
    """What a run has learnt so far."""
    return [parameter.detach().clone() for parameter in run.trainer.parameters]


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    """Bit for bit."""
    return len(one) == len(two) > 0 and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def save_picture(path: Path, size: tuple[int, int] = (32, 32), mode: str = "RGB", **options: Any) -> Path:
    """A picture file with a gradient in it."""
    picture = Image.linear_gradient("L").resize(size).convert(mode)
    picture.save(path, **options)
    return path
