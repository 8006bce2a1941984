"""Where things lie in a picture. Places keep to the token grid, so that a thing has the same tokens in all of them.

A picture is 128x128 pixels, 16x16 cells of 8x8 pixels; one cell is one token.
"""

from __future__ import annotations

from dataclasses import dataclass

SIDE, CELL = 128, 8
LARGE_SIDE, SMALL_SIDE = 112, 64


@dataclass(frozen=True)
class Place:
    """A square in the picture: its first row and column and its side, all in pixels."""

    top: int
    left: int
    side: int


WHOLE = "whole"
CORNERS = ("top left", "top right", "bottom left", "bottom right")
PLACES: dict[str, Place] = {
    WHOLE: Place(8, 8, LARGE_SIDE),
    "top left": Place(0, 0, SMALL_SIDE),
    "top right": Place(0, 64, SMALL_SIDE),
    "bottom left": Place(64, 0, SMALL_SIDE),
    "bottom right": Place(64, 64, SMALL_SIDE),
    "left": Place(32, 0, SMALL_SIDE),
    "right": Place(32, 64, SMALL_SIDE),
    "above": Place(0, 32, SMALL_SIDE),
    "below": Place(64, 32, SMALL_SIDE),
}
# "A <relation> B": the places of A and of B.
RELATIONS: dict[str, tuple[str, str]] = {
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("above", "below"),
    "below": ("below", "above"),
}


@dataclass(frozen=True)
class Scene:
    """A picture in words: `things` (names of `THINGS`), the place of each, and the background's name."""

    things: tuple[str, ...]
    places: tuple[str, ...]
    background: str

    @classmethod
    def single(cls, thing: str, background: str, place: str = WHOLE) -> Scene:
        """One thing: large in the middle, or small in a corner."""
        return cls((thing,), (place,), background)

    @classmethod
    def pair(cls, first: str, relation: str, second: str, background: str) -> Scene:
        """Two things: "`first` `relation` `second`", as "cat left of dog"."""
        return cls((first, second), RELATIONS[relation], background)
