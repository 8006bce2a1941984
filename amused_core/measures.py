"""How sure the model was in one step of sampling, worked out when asked: a run nobody looks into costs nothing."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from .errors import AmusedError


class Measures:
    """What a step's probabilities say. They are large, so the sampler takes them back when its `on_step` returns.

    Args:
        probs: fp32 [n,K], the model's own probabilities (guidance applied, before any filter) for the masked cells.
        drawn: int64 [n], the step's guesses for them.
        unknown: bool [B,N], the cells that were masked before the step.
        shape: (B,h,w).
    """

    def __init__(self, probs: Tensor, drawn: Tensor, unknown: Tensor, shape: torch.Size) -> None:
        self._probs: Tensor | None = probs
        self._drawn = drawn
        self.unknown = unknown.view(shape)

    @cached_property
    def probability(self) -> Tensor:
        """fp32 [B,h,w]: of the code that was guessed; 1 where it was known before."""
        chosen = self._live().gather(-1, self._drawn[:, None])[:, 0]
        return torch.ones(self.unknown.shape, device=chosen.device).masked_scatter(self.unknown, chosen)

    @cached_property
    def entropy(self) -> Tensor:
        """fp32 [B,h,w] in nats, 0 (sure) to log K (no idea); 0 where the code was known before."""
        entropy = torch.special.entr(self._live()).sum(-1)
        return torch.zeros(self.unknown.shape, device=entropy.device).masked_scatter(self.unknown, entropy)

    def close(self) -> None:
        """Lets the probabilities go; what was asked for before stays."""
        self._probs = None

    def _live(self) -> Tensor:
        if self._probs is None:
            raise AmusedError("A step's measures are there only while on_step runs; read them there.")
        return self._probs
