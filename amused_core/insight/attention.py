"""How much each cell looks at each token of the prompt: the U-ViT's attention to the text, watched while it runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..networks.attention import ROWS
from .cells import spread


class AttentionMeter:
    """Mean over heads and layers of all the attention it is shown, until it is taken."""

    def __init__(self) -> None:
        # By the first row of a pass: the sum of its attentions, and how many they are.
        self._passes: dict[int, tuple[Tensor, int]] = {}

    def add(self, q: Tensor, k: Tensor, heads: int, options: dict[str, Any] | None = None) -> None:
        """An `AttentionObserver`: `q` [B,N,C], `k` [B,L,C]; other shapes than the first one's are left out."""
        first = 0 if options is None or ROWS not in options else options[ROWS].start
        q, k = (x.float().unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).mean(1)
        total, count = self._passes.get(first, (torch.zeros_like(weights), 0))
        if weights.shape == total.shape:
            self._passes[first] = total + weights, count + 1

    def take(self) -> Tensor | None:
        """fp32 [B,N,L], each row summing to 1, or None where nothing was seen; starts anew."""
        means = [total / count for _, (total, count) in sorted(self._passes.items())]
        self._passes = {}
        return torch.cat(means) if means else None


def to_grid(weights: Tensor, height: int, width: int) -> Tensor | None:
    """Attention of the trunk's cells [B,N,L] -> [B,h,w,L] for every token, None where it was of a part of the grid.

    Where the U-ViT halves the grid, one of its cells stands for 2x2 tokens.
    """
    for pixels in (1, 2):
        grid = (-(-height // pixels), -(-width // pixels))
        if weights.shape[1] == grid[0] * grid[1]:
            return spread(weights.unflatten(1, grid), pixels)[:, :height, :width]
    return None
