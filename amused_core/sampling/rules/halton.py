"""Halton order: cells far from each other are decided together."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..randomness import Draws
from ..schedule import Progress
from .rule import Guess

# Odd, so that multiplying by it modulo 2**64 spreads seeds that follow each other.
_SPREAD = 0x9E3779B97F4A7C15


def halton(guess: Guess, progress: Progress, draws: Draws) -> Tensor:
    """Decides cells in the 2-3 Halton order of the grid, started at a place of each picture's own.

    Besnier et al. 2025 (Halton-MaskGIT); every cell of any grid is in the order, which that code's fixed number of
    points does not ensure. Does not look at the probabilities. Costs one sort of N cells.
    """
    order = halton_order(*guess.grid).to(guess.masked.device)
    size = len(order)
    starts = torch.tensor([(seed * _SPREAD % 2**64) % size for seed in draws.seeds(len(guess.masked))])
    ranks = (order.argsort()[None] - starts[:, None].to(order.device)) % size
    return guess.lowest((-ranks.float()).masked_fill(~guess.masked, torch.inf))


@lru_cache(maxsize=16)
def halton_order(height: int, width: int) -> Tensor:
    """Cells int64 [h*w] of a grid in the order in which a 2-3 Halton sequence (Halton 1960) first meets them."""
    size, start, cells = height * width, 1, torch.empty(0, dtype=torch.int64)
    while len(cells) < size:
        index = torch.arange(start, start + 4 * size)
        met = (_radical_inverse(index, 2) * height).long() * width + (_radical_inverse(index, 3) * width).long()
        cells, start = _distinct(torch.cat([cells, met])), start + 4 * size
    return cells


def _radical_inverse(index: Tensor, base: int) -> Tensor:
    """The digits of each index mirrored at the point: float64 in 0..1."""
    value, scale = torch.zeros(len(index), dtype=torch.float64), 1.0
    while bool(index.any()):
        scale /= base
        value += scale * (index % base)
        index = index // base
    return value


def _distinct(values: Tensor) -> Tensor:
    """Each value once, in the order of its first place."""
    return torch.tensor(list(dict.fromkeys(values.tolist())))
