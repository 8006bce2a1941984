"""Readings as pictures: one colour for each cell, over the picture or alone, with a legend."""

from __future__ import annotations

import torch
from torch import Tensor

from ..settings import inputs
from .cells import cell_size, checked_pictures, enlarge, paint_undecided, spread
from .readings import Reading

# Nine colours of matplotlib's viridis (CC0): even in lightness, and told apart without seeing red and green.
VIRIDIS = "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 fde725"
LEGEND, BAR, MARGIN = 36, 14, 4


def colors(values: Tensor) -> Tensor:
    """Values 0..1 of any shape -> viridis, float32 [...,3] in 0..1; dark violet is 0, yellow 1."""
    table = torch.tensor([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in VIRIDIS.split()]) / 255
    place = values.float().clamp(0, 1) * (len(table) - 1)
    low = place.floor().long().clamp(max=len(table) - 2)
    return torch.lerp(table[low], table[low + 1], (place - low)[..., None])


def heatmap(reading: Reading, pictures: Tensor | None = None, opacity: float = 0.7, legend: bool = True) -> Tensor:
    """A reading as pictures.

    Args:
        reading: of B pictures of h x w cells.
        pictures: float [B,H,W,3] in 0..1 under the map; None: the map alone. They are shown without colour, so that
            theirs do not mix with the map's.
        opacity: of the map, 0 to 1.
        legend: adds a strip below: the colours and what they mean.

    Returns:
        float32 [B,H',W',3], enlarged in whole steps until the longer side is at least 512.

    Raises:
        AmusedError: `opacity` is out of range, or the pictures are not one for each, in 0..1, and made of such cells.
    """
    opacity, legend = inputs.number(opacity, "opacity", 0, 1), inputs.flag(legend, "legend")
    shown = colors((reading.values.float() - reading.low) / max(reading.high - reading.low, 1e-9))
    if pictures is None:
        shown = enlarge(shown)
    else:
        below = enlarge(checked_pictures(pictures, len(reading.values)))
        shown = spread(shown, cell_size(below, tuple(shown.shape[1:3])))
        shown = torch.lerp(below.mean(-1, keepdim=True).expand_as(below), shown, opacity)
    if reading.blank is not None:
        shown = paint_undecided(shown, reading.blank)
    if not legend:
        return shown
    strip = legend_strip(reading.start, reading.end, shown.shape[2])
    return torch.cat([shown, strip.expand(len(shown), -1, -1, -1)], 1)


def legend_strip(start: str, end: str, width: int) -> Tensor:
    """All colours from left to right with a word below each end, float32 [1,H,width,3]."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    strip = Image.new("RGB", (width, LEGEND), "white")
    draw = ImageDraw.Draw(strip)
    draw.text((MARGIN, BAR + 2 * MARGIN), start, "black", font)
    draw.text((width - MARGIN - font.getbbox(end)[2], BAR + 2 * MARGIN), end, "black", font)
    pixels = torch.from_numpy(np.array(strip)).float() / 255
    pixels[MARGIN : MARGIN + BAR] = colors(torch.linspace(0, 1, width))
    return pixels[None]
