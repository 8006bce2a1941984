"""How sure the model was in one step of sampling, worked out when asked: a run nobody looks into costs nothing."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ..errors import AmusedError


class Measures:
    """What a step's probabilities say. They are large, so the sampler takes them back when its `on_step` returns.

    Args:
        probs: fp32 [n,K], the model's own probabilities (guidance applied, before any filter) for the masked cells.
        drawn: int64 [n], the step's guesses for them.
        cells: int64 [n], their places in the flattened grids.
        unknown: bool [B,h,w], the same cells marked.
    """

    def __init__(self, probs: Tensor, drawn: Tensor, cells: Tensor, unknown: Tensor) -> None:
        self._probs: Tensor | None = probs
        self._drawn = drawn
        self._cells = cells
        self.unknown = unknown

    @cached_property
    def probability(self) -> Tensor:
        """fp32 [B,h,w]: of the code that was guessed; 1 where it was known before."""
        chosen = self._live().gather(-1, self._drawn[:, None])[:, 0]
        return self._spread(chosen, 1.0)

    @cached_property
    def entropy(self) -> Tensor:
        """fp32 [B,h,w] in nats, 0 (sure) to log K (no idea); 0 where the code was known before."""
        return self._spread(torch.special.entr(self._live()).sum(-1), 0.0)

    def close(self) -> None:
        """Lets the probabilities go; what was asked for before stays."""
        self._probs = None

    def _spread(self, values: Tensor, known: float) -> Tensor:
        grid = torch.full((self.unknown.numel(),), known, device=values.device)
        return grid.index_copy(0, self._cells, values).view_as(self.unknown)

    def _live(self) -> Tensor:
        if self._probs is None:
            raise AmusedError("A step's measures exist only while on_step runs; read them there.")
        return self._probs
