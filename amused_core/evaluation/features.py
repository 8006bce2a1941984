"""Two feature spaces, fixed in advance and never trained: one for the judge, one for distances between pictures."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..small_world.scenes.layout import CELL, SIDE

_WIDTHS = (3, 32, 32, 16)
_SEED = 20240101


def to_planes(pictures: Tensor) -> Tensor:
    """float [B,H,W,3] in 0..1, any size -> float32 [B,3,128,128], resized where it must be."""
    planes = pictures.movedim(-1, 1).float()
    if planes.shape[-2:] == (SIDE, SIDE):
        return planes
    return F.interpolate(planes, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def look(planes: Tensor) -> Tensor:
    """What the judge compares: the mean colour of every token's cell, so that speckle and noise average out.

    Finer cells and the strength of edges in four directions were tried as well: both made the judge worse.

    Args:
        planes: float [B,3,H,W] in 0..1, sides multiples of 8.

    Returns:
        float32 [B,3,H/8,W/8].
    """
    return F.avg_pool2d(planes, CELL)


@torch.no_grad()
def maps(planes: Tensor) -> list[Tensor]:
    """Responses of three layers of random filters (stride 2, ReLU), float32 [B,C,h,w] each.

    Random convolutional features rank distortions much as trained ones do (Zhang et al. 2018, sec. 4, find an
    untrained network better than pixel measures); these are drawn from one seed and are the same everywhere.
    """
    result, x = [], planes - 0.5
    for kernel in _kernels():
        x = F.relu(F.conv2d(x, kernel, stride=2, padding=1))
        result.append(x)
    return result


def summary(planes: Tensor) -> Tensor:
    """One vector a picture for the Frechet distance: the last of `maps` over its four quarters, float32 [B,64]."""
    return torch.cat([F.adaptive_avg_pool2d(maps(piece)[-1], 2).flatten(1) for piece in planes.split(64)])


def perceptual(first: Tensor, second: Tensor) -> Tensor:
    """LPIPS (Zhang et al. 2018) on `maps` with equal weights: [B,3,H,W] twice -> float32 [B], 0 for equal pictures."""
    total = torch.zeros(len(first))
    for one, other in zip(maps(first), maps(second), strict=True):
        one, other = (layer / (layer.square().sum(1, keepdim=True).sqrt() + 1e-3) for layer in (one, other))
        total += (one - other).square().sum(1).mean((1, 2)).cpu()
    return total / (len(_WIDTHS) - 1)


@cache
def _kernels() -> tuple[Tensor, ...]:
    generator = Generator()
    generator.manual_seed(_SEED)
    kernels = []
    for wide, narrow in pairwise(_WIDTHS):
        kernel = torch.randn(narrow, wide, 3, 3, generator=generator) * math.sqrt(2 / (wide * 9))
        kernels.append(kernel)
    return tuple(kernels)
