"""What the VQ-GAN sees: scenes of the word list most of the time, other emoji and plain shapes for generality."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..scenes.layout import CELL, LARGE_SIDE, SIDE
from ..scenes.splits import random_scene
from ..scenes.sprites import background_colours, cut_out, over

_SCENE_SHARE, _EMOJI_SHARE = 0.72, 0.2  # the rest are shapes
_FLAT_SHARE = 0.7  # of the backgrounds are ours; the rest are any colour or a gradient
_SWAP_SHARE = 0.6  # of the pictures get their things from the same picture on another background


class Examples(NamedTuple):
    """Pictures to encode and to get back, float `[B, 3, H, W]`.

    `target` is to be decoded from the thing cells of `source` and the `flat` cells (bool `[B, 1, h, w]`, background
    only) of `target`. Where the backgrounds differ, this teaches tokens of things that do not know their background.
    """

    source: Tensor
    target: Tensor
    flat: Tensor
    swapped: Tensor  # bool [B]


def _uniform(generator: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator)


def _index(generator: Generator, count: int) -> int:
    return int(torch.randint(count, (1,), generator=generator))


def _gradient(generator: Generator) -> Tensor:
    """A linear ramp between two colours in a random direction, float `[3, SIDE, SIDE]`."""
    axis = torch.linspace(0, 1, SIDE)
    angle = _uniform(generator, 1) * torch.pi / 2
    ramp = (axis[:, None] * torch.sin(angle) + axis[None, :] * torch.cos(angle)) / (torch.sin(angle) + torch.cos(angle))
    first, last = _uniform(generator, 2, 3, 1, 1)
    return first + (last - first) * ramp


def _background(generator: Generator, plain: bool = False) -> Tensor:
    """Float `[3, SIDE, SIDE]`: mostly one of our flat colours; no gradient when `plain`."""
    choice = float(_uniform(generator, 1))
    if choice < _FLAT_SHARE:
        colours = background_colours()
        return colours[_index(generator, len(colours))][:, None, None].expand(3, SIDE, SIDE)
    if plain or choice < (1 + _FLAT_SHARE) / 2:
        return _uniform(generator, 3, 1, 1).expand(3, SIDE, SIDE)
    return _gradient(generator)


def _shape(generator: Generator) -> Tensor:
    """A filled ellipse or rectangle of one colour: uint8 RGBA `[4, SIDE, SIDE]`."""
    centre, radius = 32 + _uniform(generator, 2) * (SIDE - 64), 12 + _uniform(generator, 2) * 44
    axis = torch.arange(SIDE) + 0.5
    down, right = (axis[:, None] - centre[0]) / radius[0], (axis[None, :] - centre[1]) / radius[1]
    distance = (down**2 + right**2).sqrt() if _index(generator, 2) else torch.maximum(down.abs(), right.abs())
    alpha = ((1 - distance) * radius.min() + 0.5).clamp(0, 1)
    colour = _uniform(generator, 3, 1, 1).expand(3, SIDE, SIDE)
    return (torch.cat([colour, alpha[None]]) * 255).byte()


def _foreground(emoji: Tensor, generator: Generator) -> Tensor:
    """Uint8 RGBA `[4, SIDE, SIDE]`; `emoji` `[N, 4, LARGE_SIDE, LARGE_SIDE]`."""
    choice = float(_uniform(generator, 1))
    if choice < _SCENE_SHARE:
        return cut_out(random_scene(generator))
    if choice < _SCENE_SHARE + _EMOJI_SHARE:
        rgba = emoji[_index(generator, len(emoji))]
        if _index(generator, 2):
            rgba = rgba.flip(-1)
        picture = torch.zeros(4, SIDE, SIDE, dtype=torch.uint8)
        top, left = (_index(generator, SIDE - LARGE_SIDE + 1) for _ in range(2))
        picture[:, top : top + LARGE_SIDE, left : left + LARGE_SIDE] = rgba
        return picture
    return _shape(generator)


def flat_cells(rgba: Tensor) -> Tensor:
    """Cells without any thing: uint8 RGBA `[B, 4, H, W]` -> bool `[B, 1, H / CELL, W / CELL]`."""
    return F.max_pool2d(rgba[:, 3:].float(), CELL) == 0


def draw_examples(emoji: Tensor, generator: Generator, count: int, side: int = SIDE) -> Examples:
    """`count` random examples of `side` pixels: whole pictures, or crops that keep to the token grid."""
    cuts, sources, targets = [], [], []
    for _ in range(count):
        top, left = (CELL * _index(generator, (SIDE - side) // CELL + 1) for _ in range(2))
        window = (slice(None), slice(top, top + side), slice(left, left + side))
        cuts.append(_foreground(emoji, generator)[window])
        swap = float(_uniform(generator, 1)) < _SWAP_SHARE
        target = _background(generator, plain=swap)[window]
        targets.append(target)
        sources.append(_background(generator, plain=True)[window] if swap else target)
    rgba = torch.stack(cuts)
    source, target = torch.stack(sources), torch.stack(targets)
    swapped = (source != target).flatten(1).any(1)
    return Examples(over(rgba, source), over(rgba, target), flat_cells(rgba), swapped)
