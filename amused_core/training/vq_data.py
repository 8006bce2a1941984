"""What the VQ-GAN sees: the word list most of the time, other emoji and plain shapes for generality."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .data import SIDE, background_colours, compose

_THING_SHARE, _EMOJI_SHARE = 0.6, 0.3  # the rest are shapes
_FLAT_SHARE = 0.7  # of the backgrounds are ours; the rest are any colour or a gradient


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


def _background(generator: Generator) -> Tensor:
    """Float `[3, SIDE, SIDE]`: mostly one of our flat colours."""
    choice = float(_uniform(generator, 1))
    if choice < _FLAT_SHARE:
        colours = background_colours()
        return colours[_index(generator, len(colours))][:, None, None].expand(3, SIDE, SIDE)
    if choice < (1 + _FLAT_SHARE) / 2:
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


def draw(things: Tensor, emoji: Tensor, generator: Generator) -> Tensor:
    """One random picture, float `[3, SIDE, SIDE]`; `things` and `emoji` are uint8 RGBA `[N, 4, SIDE, SIDE]`."""
    choice = float(_uniform(generator, 1))
    if choice < _THING_SHARE:
        rgba = things[_index(generator, len(things))]
    elif choice < _THING_SHARE + _EMOJI_SHARE:
        rgba = emoji[_index(generator, len(emoji))]
        if _index(generator, 2):
            rgba = rgba.flip(-1)
        rgba = rgba.roll((_index(generator, 8), _index(generator, 8)), (1, 2))
    else:
        rgba = _shape(generator)
    return compose(rgba[None], _background(generator)[None])[0]


def draw_batch(
    things: Tensor, emoji: Tensor, generator: Generator, full: bool, crops: int = 4, side: int = 64
) -> Tensor:
    """One step's pictures: `[1, 3, SIDE, SIDE]` when `full`, otherwise `crops` crops that keep to the token grid."""
    if full:
        return draw(things, emoji, generator)[None]
    pieces = []
    for _ in range(crops):
        top, left = (8 * _index(generator, (SIDE - side) // 8 + 1) for _ in range(2))
        pieces.append(draw(things, emoji, generator)[:, top : top + side, left : left + side])
    return torch.stack(pieces)
