"""How much each cell looks at each token of the prompt: the U-ViT's attention to the text, watched while it runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .cells import spread


class AttentionMeter:
    """Mean over heads and layers of all the attention it is shown, until it is taken."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, q: Tensor, k: Tensor, heads: int, options: dict[str, Any] | None = None) -> None:
        """An `AttentionObserver`: `q` [B,N,C], `k` [B,L,C]; other shapes than the first one's are left out."""
        q, k = (x.float().unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).mean(1)
        if self._sum is None:
            self._sum = torch.zeros_like(weights)
        if weights.shape == self._sum.shape:
            self._sum += weights
            self._count += 1

    def take(self) -> Tensor | None:
        """fp32 [B,N,L], each row summing to 1, or None where nothing was seen; starts anew."""
        mean = None if self._sum is None else self._sum / self._count
        self._sum, self._count = None, 0
        return mean


def to_grid(weights: Tensor, height: int, width: int) -> Tensor | None:
    """Attention of the trunk's cells [B,N,L] -> [B,h,w,L] for every token, None where it was of a part of the grid.

    Where the U-ViT halves the grid, one of its cells stands for 2x2 tokens.
    """
    for pixels in (1, 2):
        grid = (-(-height // pixels), -(-width // pixels))
        if weights.shape[1] == grid[0] * grid[1]:
            return spread(weights.unflatten(1, grid), pixels)[:, :height, :width]
    return None
