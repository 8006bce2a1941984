"""The optimizer and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .adapters import missing_package
from .settings import TrainingSettings


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Of step 0, 1, ...: rises over `warmup` steps, then stays constant or falls to 0 as a cosine."""
    factor = min(1.0, (step + 1) / (settings.warmup + 1))
    if settings.lr_schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps)))
    return settings.learning_rate * factor


def make_optimizer(parameters: list[Tensor], settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW, or the 8-bit one.

    Raises:
        AmusedError: the 8-bit one needs bitsandbytes, which is not installed.
    """
    kw = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **kw)
    try:
        from bitsandbytes.optim import AdamW8bit
    except (ImportError, OSError, RuntimeError):
        raise missing_package("bitsandbytes") from None
    return AdamW8bit(parameters, **kw)
