"""The original's own pixels around what was regenerated: decoding changes every pixel a little."""

from __future__ import annotations

import torch
from torch import Tensor

from .masks import feather

# Pixels of the edge, inside the mask.
FEATHER = 2


def composite(original: Tensor, generated: Tensor, mask: Tensor, pixels: int = FEATHER) -> Tensor:
    """`generated` inside `mask`, `original` outside, over `pixels` from one to the other inside the mask.

    Args:
        original: float [B,H,W,3]; where the mask is 0 it is kept bit for bit.
        generated: of the same shape.
        mask: float [B,H,W] of 0 and 1.
        pixels: softness of the edge; 0: a hard one.

    Returns:
        float [B,H,W,3].
    """
    share = feather(mask, pixels)[..., None]
    return torch.where(share > 0, torch.lerp(original, generated, share), original)
