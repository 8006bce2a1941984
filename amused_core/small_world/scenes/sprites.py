"""The pictures of the things: emoji of the Noto Color Emoji font, kept in `sprites.webp`, laid on backgrounds.

The images of the font are under Apache-2.0, Copyright Google LLC; `training/data.py` draws the sheet from the font.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .layout import LARGE_SIDE, PLACES, SIDE, SMALL_SIDE, Scene
from .things import BACKGROUNDS, THINGS

SHEET = Path(__file__).parent / "sprites.webp"
SHEET_COLUMNS = 16
_SMALL_MARGIN = 2


@cache
def sprites() -> dict[int, Tensor]:
    """All things, in the order of `THINGS`, by side in pixels: uint8 RGBA `[things, 4, side, side]`."""
    import numpy as np
    from PIL import Image

    inner = SMALL_SIDE - 2 * _SMALL_MARGIN
    large, small = [], []
    with Image.open(SHEET) as file:
        sheet = file.convert("RGBA")
    for index in range(len(THINGS)):
        left, top = index % SHEET_COLUMNS * LARGE_SIDE, index // SHEET_COLUMNS * LARGE_SIDE
        sprite = sheet.crop((left, top, left + LARGE_SIDE, top + LARGE_SIDE))
        canvas = Image.new("RGBA", (SMALL_SIDE, SMALL_SIDE))
        canvas.paste(sprite.resize((inner, inner), Image.LANCZOS), (_SMALL_MARGIN, _SMALL_MARGIN))
        large.append(torch.from_numpy(np.array(sprite)))
        small.append(torch.from_numpy(np.array(canvas)))
    return {LARGE_SIDE: torch.stack(large).permute(0, 3, 1, 2), SMALL_SIDE: torch.stack(small).permute(0, 3, 1, 2)}


@cache
def thing_index(name: str) -> int:
    """Position of the thing called `name` in `THINGS`."""
    return [thing.name for thing in THINGS].index(name)


def background_colours() -> Tensor:
    """float32 `[number of backgrounds, 3]` in 0..1, in the order of `BACKGROUNDS`."""
    return torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float32) / 255


def cut_out(scene: Scene) -> Tensor:
    """The things of `scene` without a background: uint8 RGBA `[4, 128, 128]`."""
    picture = torch.zeros(4, SIDE, SIDE, dtype=torch.uint8)
    for thing, name in zip(scene.things, scene.places, strict=True):
        place = PLACES[name]
        rows, columns = slice(place.top, place.top + place.side), slice(place.left, place.left + place.side)
        picture[:, rows, columns] = sprites()[place.side][thing_index(thing)]
    return picture


def over(rgba: Tensor, background: Tensor) -> Tensor:
    """Lay uint8 RGBA `[B, 4, H, W]` over `background` (float, `[B, 3]` or `[B, 3, H, W]`): float32 `[B, 3, H, W]`."""
    if background.ndim == 2:
        background = background[:, :, None, None]
    rgba = rgba.float() / 255
    alpha = rgba[:, 3:]
    return rgba[:, :3] * alpha + background * (1 - alpha)


def draw(scenes: Sequence[Scene]) -> Tensor:
    """The pictures of `scenes`: float32 `[B, 3, 128, 128]` in 0..1."""
    names = list(BACKGROUNDS)
    colours = background_colours()[[names.index(scene.background) for scene in scenes]]
    return over(torch.stack([cut_out(scene) for scene in scenes]), colours)
