"""Fake models for the sampling loop."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from amused_core.sampling.loop import Predict, at
from amused_core.sampling.schedule import Progress

Grid = Callable[[Tensor, int], Tensor]


def masked_only(model: Grid) -> Predict:
    """A model `(tokens, step) -> logits [B,K,h,w]` as the loop calls it: logits of the masked cells only."""

    def predict(tokens: Tensor, progress: Progress, cells: Tensor) -> Tensor:
        return at(model(tokens, progress.index).expand(len(tokens), -1, -1, -1), cells)

    return predict
