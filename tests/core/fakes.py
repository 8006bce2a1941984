"""Fake models for the sampling loop."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from amused_core.sampling.loop import Predict, at

Grid = Callable[[Tensor, int], Tensor]


def masked_only(model: Grid) -> Predict:
    """A model `(tokens, step) -> logits [B,K,h,w]` as the loop calls it: logits of the masked cells only."""

    def predict(tokens: Tensor, index: int, cells: Tensor) -> Tensor:
        return at(model(tokens, index).expand(len(tokens), -1, -1, -1), cells)

    return predict
