"""Mask geometry: from pixels to whole cells of the token grid, and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import AmusedError


def mask_to_cells(mask: Tensor, factor: int, threshold: float = 0.5, grow: int = 0, invert: bool = False) -> Tensor:
    """Every cell that a stroke touches.

    Args:
        mask: [B,H,W] in 0..1; 1 = draw anew.
        factor: pixels per cell side; H and W must be multiples of it.
        threshold: a pixel counts from this value on.
        grow: cells added around (shrunk away where negative).
        invert: select what the strokes leave out instead; applied before growing.

    Returns:
        bool [B, H/factor, W/factor].
    """
    height, width = mask.shape[-2:]
    if height % factor or width % factor:
        raise AmusedError(f"The mask is {width}x{height} pixels; both sides must be multiples of {factor}.")
    if torch.isnan(mask).any():
        raise AmusedError("The mask holds NaN; allowed are numbers from 0 to 1.")
    low, high = mask.min().item(), mask.max().item()
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise AmusedError(f"The mask's values run from {low:g} to {high:g}; they must be numbers from 0 to 1.")
    cells = F.max_pool2d((mask >= threshold).float()[:, None], factor)[:, 0] > 0
    return grow_cells(~cells if invert else cells, grow)


def grow_cells(cells: Tensor, count: int) -> Tensor:
    """Adds `count` cells around (bool [B,h,w]); negative takes them away. Outside the picture is never taken away."""
    if count < 0:
        return ~grow_cells(~cells, -count)
    count = min(count, max(cells.shape[-2:]))  # Beyond that there is nothing to add.
    size = 2 * count + 1
    return F.max_pool2d(cells.float()[:, None], size, stride=1, padding=count)[:, 0] > 0


def cells_to_mask(cells: Tensor, factor: int) -> Tensor:
    """bool [B,h,w] -> float32 mask [B, h*factor, w*factor] of 0 and 1."""
    return cells.float().repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def feather(mask: Tensor, pixels: int) -> Tensor:
    """Softens the border of `mask` [B,H,W] inwards over `pixels`, so that nothing outside it gets a share.

    A box blur of the mask shrunk by as many pixels: 0 stays 0, the value rises to 1 within `2 * pixels` of the border.
    """
    if pixels <= 0:
        return mask
    size = 2 * pixels + 1
    # The picture's own border is no border of the mask: pad with what is there.
    padded = F.pad(mask[:, None], [2 * pixels] * 4, mode="replicate")
    # Rows, then columns: a square of 513 pixels at once would take minutes, which nothing can interrupt.
    shrunk = padded
    for window in ((size, 1), (1, size)):
        shrunk = -F.max_pool2d(-shrunk, window, stride=1)
    # Sums of 0 and 1 are exact.
    total = shrunk
    for window in ((size, 1), (1, size)):
        total = F.avg_pool2d(total, window, stride=1, divisor_override=1)
    return total[:, 0] / size**2
