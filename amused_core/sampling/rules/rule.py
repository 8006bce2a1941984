"""What an unmasking rule gets and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..randomness import Draws
from ..schedule import Progress


class Guess(NamedTuple):
    """What a step has drawn, for B grids of h x w = N cells of which n are masked.

    Attributes:
        probs: fp32 [n,K], the model's own probabilities for the masked cells, guidance applied.
        codes: int64 [n], the codes drawn for them.
        cells: int64 [n], their places in the flattened grids.
        masked: bool [B,N], the same cells marked.
        free: bool [B,N], the cells that were masked when the run began: all that a rule may mask.
        count: fp32 [B,1], cells of each grid that the schedule leaves masked after the step.
        grid: (h, w).
    """

    probs: Tensor
    codes: Tensor
    cells: Tensor
    masked: Tensor
    free: Tensor
    count: Tensor
    grid: tuple[int, int]

    def spread(self, values: Tensor, fill: float) -> Tensor:
        """`values` fp32 [n] of the masked cells -> fp32 [B,N], with `fill` in all others."""
        grid = values.new_full((self.masked.numel(),), fill)
        return grid.index_copy(0, self.cells, values).view_as(self.masked)

    def lowest(self, scores: Tensor) -> Tensor:
        """The `count` masked cells of lowest score, bool [B,N]; `scores` fp32 [B,N] are infinite where not masked.

        At least one cell stays masked and at least one is decided.
        """
        count = torch.minimum(self.masked.sum(-1, keepdim=True) - 1, self.count)
        count = count.clamp(1, max(self.masked.shape[1] - 1, 0)).long()
        return (scores < scores.sort(-1).values.gather(1, count)) & self.masked


@dataclass(frozen=True)
class Rule:
    """An unmasking rule.

    Attributes:
        remask: from what a step has drawn to the cells bool [B,N] that are masked again.
        revises: it may mask cells that an earlier step has decided. The loop keeps every rule from masking a cell that
            was known when the run began, and every other rule from masking a decided one.
        exponent: the power of the probabilities that a step draws codes from; None is 1 in every step.
    """

    remask: Callable[[Guess, Progress, Draws], Tensor]
    revises: bool = False
    exponent: Callable[[Progress], float] | None = None
