"""Classifier-free guidance in logit space (Ho & Salimans 2022; Chang et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .sampling import Predict
from .text import TextEmbedding

Forward = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def guide(uncond: Tensor, cond: Tensor, cfg: float) -> Tensor:
    """`uncond + cfg * (cond - uncond)`, shapes alike."""
    return uncond + cfg * (cond - uncond)


def predictor(
    forward: Forward, cond: TextEmbedding, uncond: TextEmbedding | None, micro: Tensor, cfg: float
) -> Predict:
    """A callable that gives guided logits for a partly masked grid.

    Args:
        forward: `(tokens, hidden, pooled, micro) -> logits`, a U-ViT.
        cond, uncond: embeddings of B rows; `uncond` None is no guidance.
        micro: [1,5] or [B,5].
        cfg: guidance.
    """
    batch = len(cond.hidden)
    micro = micro.expand(batch, -1)
    if uncond is None:
        return lambda tokens, index: forward(tokens, *cond, micro)
    hidden, pooled = (torch.cat(pair) for pair in zip(uncond, cond, strict=True))
    micro = torch.cat([micro, micro])

    def guided(tokens: Tensor, index: int) -> Tensor:
        logits = forward(torch.cat([tokens, tokens]), hidden, pooled, micro)
        return guide(*logits.float().chunk(2), cfg)

    return guided
