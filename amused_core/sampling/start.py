"""The grid that a run begins with."""

from __future__ import annotations

import torch
from torch import Tensor

from .randomness import Draws


def start_tokens(
    tokens: Tensor, ratio: float, draws: Draws, mask_token_id: int, region: Tensor | None = None, whole: bool = False
) -> Tensor:
    """Masks what a run draws anew.

    Args:
        tokens: int64 [B,h,w], of a picture or already masked.
        ratio: mask ratio before the first step; from 1 on every cell of the region is masked.
        draws: chooses the cells, a share `ratio` of the region (image-to-image).
        mask_token_id: the id of a masked cell.
        region: bool [B,h,w], the cells that may be regenerated; None for the whole grid.
        whole: mask the whole region whatever the ratio, as diffusers' `AmusedInpaintPipeline` does.

    Returns:
        int64 [B,h,w].
    """
    eligible = torch.ones_like(tokens, dtype=torch.bool) if region is None else region
    if whole or ratio >= 1:
        return tokens.masked_fill(eligible, mask_token_id)
    chosen = draws.cells(eligible.flatten(1), torch.tensor(ratio)).view(tokens.shape)
    return tokens.masked_fill(chosen, mask_token_id)
