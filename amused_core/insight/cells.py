"""Cells as squares of pixels: enlarged, painted, marked as not decided yet."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import AmusedError
from ..settings import inputs

MIN_SIDE = 512
# The two greys of the squares that stand for a cell nobody has decided yet, and how much of a guess they cover.
DARK, LIGHT = 0.42, 0.58
VEIL = 0.6


def enlarge(pictures: Tensor, side: int = MIN_SIDE) -> Tensor:
    """[B,H,W,...] -> every pixel a square, as large as makes the longer side at least `side`."""
    return spread(pictures, -(-side // max(pictures.shape[1:3])))


def spread(cells: Tensor, pixels: int) -> Tensor:
    """[B,h,w,...] -> [B, h*pixels, w*pixels, ...], each cell a square."""
    return cells.repeat_interleave(pixels, 1).repeat_interleave(pixels, 2)


def checked_pictures(pictures: Tensor, count: int) -> Tensor:
    """`pictures` as float32 [count,H,W,3] on the CPU.

    Raises:
        AmusedError: they are no such tensor of floating-point numbers, or another number of pictures.
    """
    shape = tuple(inputs.dense(pictures, "pictures").shape)
    if len(shape) != 4 or shape[0] != count or shape[3] != 3:
        raise AmusedError(f"pictures have the shape {shape}; allowed is [{count},H,W,3], a picture per grid.")
    if not pictures.is_floating_point():
        raise AmusedError(f"pictures have the dtype {pictures.dtype}; allowed are floating-point values from 0 to 1.")
    return pictures.float().cpu()


def cell_size(pictures: Tensor, grid: tuple[int, int]) -> int:
    """Pixels per side of a cell, where pictures [B,H,W,3] show grids of (h,w) cells.

    Raises:
        AmusedError: the cells are no squares of whole pixels.
    """
    height, width = pictures.shape[1:3]
    pixels = height // grid[0]
    if pixels < 1 or (height, width) != (grid[0] * pixels, grid[1] * pixels):
        raise AmusedError(
            f"The image is {width}x{height} pixels, which {grid[1]}x{grid[0]} tokens do not fill with squares; take "
            "the image that these tokens were decoded to."
        )
    return pixels


def paint_undecided(pictures: Tensor, undecided: Tensor, veil: float = 1.0) -> Tensor:
    """Grey squares, four to a cell, where nothing is decided yet.

    Args:
        pictures: float [B,H,W,3] in 0..1.
        undecided: bool [B,h,w].
        veil: how much the squares cover of what is below: 1 all of it.

    Returns:
        float, shape of `pictures`.
    """
    pixels = cell_size(pictures, tuple(undecided.shape[1:]))
    rows, columns = (torch.arange(side, device=pictures.device) * 2 // pixels for side in pictures.shape[1:3])
    squares = torch.where((rows[:, None] + columns) % 2 == 0, DARK, LIGHT)[None, ..., None]
    covered = torch.lerp(pictures, squares.to(pictures).expand_as(pictures), veil)
    return torch.where(spread(undecided, pixels)[..., None].to(pictures.device), covered, pictures)
