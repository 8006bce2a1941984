"""The masks that a masked-token model is trained with."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def mask_ratio(time: Tensor) -> Tensor:
    """Cosine schedule of MaskGIT (Chang et al. 2022): `time` 0..1 -> the share of the tokens that is masked, 1..0."""
    return torch.cos(time * (math.pi / 2))


def random_mask(height: int, width: int, ratio: float, generator: Generator) -> Tensor:
    """Bool `[height, width]` with `ratio` of the cells (at least one) masked anywhere."""
    count = max(1, round(ratio * height * width))
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[torch.randperm(height * width, generator=generator)[:count]] = True
    return mask.reshape(height, width)
