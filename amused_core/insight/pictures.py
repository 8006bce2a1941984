"""Tokens as pictures: after every step of a run, and with a grid over them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..settings import inputs
from .cells import MIN_SIDE, VEIL, cell_size, checked_pictures, enlarge, paint_undecided
from .record import UNDECIDED, Trace

Decode = Callable[[Tensor], Tensor]
UNDECIDED_LOOKS = ("guess", "hidden")
# Pixels per side of a cell that five digits need.
ID_CELL = 36
LINE = 0.15


def finished(trace: Trace, decode: Decode) -> Tensor:
    """The pictures at the end of a run, undecided cells grey, float32 [B,H,W,3]."""
    return _painted(trace.tokens[-1], trace.tokens[-1] == UNDECIDED, decode, 1.0)


def frames(trace: Trace, decode: Decode, undecided: str = "guess") -> Tensor:
    """The pictures after every step.

    Args:
        trace: a recorded run of S steps over B pictures.
        decode: tokens int64 [n,h,w] -> pictures float32 [n,H,W,3].
        undecided: how cells look that are not decided yet: "guess" veils the step's guess with grey squares, "hidden"
            shows the squares only.

    Returns:
        float32 [B*S,H,W,3]: all of the first picture, then all of the second; a run without steps gives what it
        began with.

    Raises:
        AmusedError: another look.
    """
    inputs.choice(undecided, "undecided", UNDECIDED_LOOKS)
    if not trace.steps:
        return finished(trace, decode)
    tokens = trace.tokens[1:].transpose(0, 1).flatten(0, 1)
    shown = trace.predicted.transpose(0, 1).flatten(0, 1) if undecided == "guess" else tokens
    return _painted(shown, tokens == UNDECIDED, decode, VEIL if undecided == "guess" else 1.0)


def token_grid(tokens: Tensor, pictures: Tensor, ids: bool = False) -> Tensor:
    """Lines between the cells of pictures.

    Args:
        tokens: int64 [B,h,w]; -1 where undecided.
        pictures: float [B,H,W,3] in 0..1 that show them.
        ids: also writes the number of each cell's token.

    Returns:
        float32 [B,H',W',3], enlarged in whole steps until lines and numbers can be seen.

    Raises:
        AmusedError: the pictures are not made of such cells.
    """
    ids, grid = inputs.flag(ids, "ids"), tuple(inputs.token_grids(tokens, "tokens").shape[1:])
    pictures = checked_pictures(pictures, len(tokens))
    cell_size(pictures, grid)
    shown = enlarge(pictures, max(MIN_SIDE, max(grid) * ID_CELL * ids))
    pixels = cell_size(shown, grid)
    if ids:
        shown = torch.stack([_write(*pair, pixels) for pair in zip(shown, tokens.tolist(), strict=True)])
    shown[:, ::pixels] *= LINE
    shown[:, :, ::pixels] *= LINE
    return shown


def _painted(tokens: Tensor, undecided: Tensor, decode: Decode, veil: float) -> Tensor:
    return paint_undecided(decode(_filled(tokens)).float().cpu(), undecided, veil)


def _filled(tokens: Tensor) -> Tensor:
    """Grids [n,h,w] with each one's most frequent token in its gaps, so that what is painted over bleeds little."""
    rows = []
    for grid in tokens:
        known = grid[grid != UNDECIDED]
        rows.append(torch.where(grid == UNDECIDED, known.mode().values if len(known) else 0, grid))
    return torch.stack(rows)


def _write(picture: Tensor, tokens: list[list[int]], pixels: int) -> Tensor:
    """The number of each token in the middle of its cell, light on a dark rim."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    image = Image.fromarray((picture.clamp(0, 1) * 255).round().byte().numpy())
    draw = ImageDraw.Draw(image)
    for y, row in enumerate(tokens):
        for x, token in enumerate(row):
            text = "?" if token == UNDECIDED else str(token)
            width, height = font.getbbox(text)[2:]
            place = (x * pixels + (pixels - width) // 2, y * pixels + (pixels - height) // 2)
            draw.text(place, text, "white", font, stroke_width=1, stroke_fill="black")
    return torch.from_numpy(np.array(image)).float() / 255
