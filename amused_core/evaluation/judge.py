"""The judge: what a picture shows, read off without knowing the prompt.

1. Background: the named colour that most of the picture's frame has, by rule.
2. Layout and things: of every scene of the world on that background (a thing large or in a corner, any two side by
   side or above each other, about 60 000) and of every place left empty, the one nearest in the feature space `look`.
   A scene's distance is the sum over its places, so the nearest is found without drawing them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ..small_world.scenes.layout import CELL, CORNERS, LARGE_SIDE, PLACES, SIDE, SMALL_SIDE, WHOLE, Place, Scene
from ..small_world.scenes.sprites import background_colours, over, sprites
from ..small_world.scenes.things import BACKGROUNDS, THINGS
from .features import look

FRAME = 1
"""Width of the frame in cells of 8x8 pixels: at least three quarters of it are background in every scene."""
LAYOUTS: tuple[tuple[str, ...], ...] = (
    (WHOLE,),
    *((corner,) for corner in CORNERS),
    ("left", "right"),
    ("above", "below"),
)
_BACKGROUND_NAMES = tuple(BACKGROUNDS)
_PIECE = 64


@dataclass(frozen=True)
class Reading:
    """What the judge sees, one entry a picture.

    Attributes:
        background: int64 [B], position in `BACKGROUNDS`; -1: no named colour fills half of the frame.
        layout: int64 [B], position in `LAYOUTS`.
        things: int64 [B,2], position in `THINGS` at each place of the layout; -1: nothing is there.
    """

    background: Tensor
    layout: Tensor
    things: Tensor

    def words(self, index: int) -> str:
        """One picture's reading in words, as "cat left, dog right; yellow"."""
        places = LAYOUTS[int(self.layout[index])]
        named = [
            f"{THINGS[number].name if number >= 0 else 'nothing'} {place}"
            for number, place in zip(self.things[index].tolist(), places, strict=False)
        ]
        colour = int(self.background[index])
        return f"{', '.join(named)}; {_BACKGROUND_NAMES[colour] if colour >= 0 else 'no clear background'}"


def seen_scene(reading: Reading, index: int) -> Scene | None:
    """The scene that picture `index` shows; None without a clear background or with nothing in a place."""
    places = LAYOUTS[int(reading.layout[index])]
    numbers = reading.things[index].tolist()[: len(places)]
    colour = int(reading.background[index])
    if colour < 0 or min(numbers) < 0:
        return None
    return Scene(tuple(THINGS[number].name for number in numbers), places, _BACKGROUND_NAMES[colour])


def background_of(planes: Tensor) -> Tensor:
    """The background by rule: of the frame's cells of 8x8 pixels, the colour that most have, if at least half have it.

    A cell has a named colour when its mean is nearer to it than half the smallest distance of two named colours.

    Args:
        planes: float [B,3,128,128] in 0..1.

    Returns:
        int64 [B], position in `BACKGROUNDS` or -1.
    """
    share, colour = colour_votes(planes).max(1)
    return torch.where(share >= 0.5, colour, -1)


def colour_votes(planes: Tensor) -> Tensor:
    """The share of the frame's cells that have each named colour: [B,3,128,128] -> [B,colours]."""
    colours = background_colours()
    reach = torch.pdist(colours).min() / 2
    frame = torch.ones(SIDE // CELL, SIDE // CELL, dtype=torch.bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    cells = look(planes).flatten(2)[..., frame.flatten()].transpose(1, 2)
    distance, nearest = torch.cdist(cells, colours.expand(len(planes), -1, -1)).min(-1)
    return torch.stack([((nearest == i) & (distance < reach)).float().mean(1) for i in range(len(colours))], 1)


@torch.no_grad()
def read(planes: Tensor) -> Reading:
    """Reads pictures, float [B,3,128,128] in 0..1. Without a clear background, things are sought as on white."""
    background = background_of(planes)
    layout = torch.zeros(len(planes), dtype=torch.long)
    things = torch.full((len(planes), 2), -1)
    for colour in background.unique().tolist():
        rows = (background == colour).nonzero()[:, 0]
        for piece in rows.split(_PIECE):
            layout[piece], things[piece] = _nearest(look(planes[piece]), max(colour, 0))
    return Reading(background, layout, things)


def _nearest(seen: Tensor, colour: int) -> tuple[Tensor, Tensor]:
    """The nearest scene on one background: layout [B] and things [B,2]. `seen` is `look` of the pictures."""
    large, small, flat = _references(colour)
    empty = (seen - flat).square().sum(1)
    whole = empty.flatten(1).sum(1)
    distances = []
    things = torch.full((len(LAYOUTS), len(seen), 2), -1)
    for number, places in enumerate(LAYOUTS):
        total = whole.clone()
        for column, name in enumerate(places):
            window = (slice(None), *_window(PLACES[name]))
            references = large if name == WHOLE else small
            one = torch.cdist(seen[(slice(None), *window)].flatten(1), references).square()
            nothing = empty[window].flatten(1).sum(1, keepdim=True)
            nearest, which = torch.cat([nothing, one], 1).min(1)
            total += nearest - nothing[:, 0]
            things[number, :, column] = which - 1
        distances.append(total)
    layout = torch.stack(distances).argmin(0)
    return layout, things[layout, torch.arange(len(seen))]


def _window(place: Place) -> tuple[slice, slice]:
    """Rows and columns of a place in cells of `look`. Large things may touch the sides: theirs is the whole picture."""
    if place.side == LARGE_SIDE:
        return slice(None), slice(None)
    return tuple(slice(start // CELL, (start + place.side) // CELL) for start in (place.top, place.left))


@cache
def _references(colour: int) -> tuple[Tensor, Tensor, Tensor]:
    """`look` of every thing on a background, large [T,F] and small [T,f], and of the background alone [1,3,1,1]."""
    tint = background_colours()[colour : colour + 1]
    whole = torch.zeros(len(THINGS), 4, SIDE, SIDE, dtype=torch.uint8)
    place = PLACES[WHOLE]
    whole[..., place.top : place.top + place.side, place.left : place.left + place.side] = sprites()[LARGE_SIDE]
    large, small = (
        torch.cat([look(over(piece, tint)).flatten(1) for piece in rgba.split(_PIECE)])
        for rgba in (whole, sprites()[SMALL_SIDE])
    )
    return large, small, look(tint[..., None, None].expand(-1, -1, CELL, CELL))
