"""Contact sheets: pictures with their prompts and the verdict of the judge."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ..files.writing import beside
from ..small_world.scenes.layout import SIDE

MARKS = {"right": (46, 160, 67), "nearest": (219, 171, 9), "wrong": (207, 34, 46), "": (140, 140, 140)}
"""Colour of the bar under a picture: strictly right, right but for its quality, wrong, not judged."""
_GAP, _BAR, _LINE, _LINES, _LETTERS = 6, 4, 11, 4, 21


def to_pixels(planes: Tensor) -> np.ndarray:
    """Pictures float [B,3,H,W] -> uint8 [B,H,W,3]."""
    return (planes.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def save_sheet(
    path: Path, planes: Tensor, captions: Sequence[str], marks: Sequence[str] | None = None, columns: int = 8
) -> None:
    """Writes float [B,3,128,128] pictures as one PNG in rows of `columns`; `marks` are names of `MARKS`."""
    from PIL import Image, ImageDraw, ImageFont

    wide, high = SIDE + _GAP, SIDE + _BAR + _LINES * _LINE + _GAP
    columns = max(1, min(columns, len(planes)))
    sheet = Image.new("RGB", (columns * wide + _GAP, -(-len(planes) // columns) * high + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for index, (array, caption) in enumerate(zip(to_pixels(planes), captions, strict=True)):
        left, top = _GAP + index % columns * wide, _GAP + index // columns * high
        sheet.paste(Image.fromarray(array), (left, top))
        mark = marks[index] if marks else ""
        pen.rectangle((left, top + SIDE, left + SIDE - 1, top + SIDE + _BAR - 1), fill=MARKS[mark])
        lines = textwrap.wrap(caption, _LETTERS)[:_LINES]
        pen.text((left, top + SIDE + _BAR), "\n".join(lines), fill="black", font=font, spacing=1)
    with beside(path) as partial:
        sheet.save(partial, "PNG")
