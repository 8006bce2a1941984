"""What is right about a picture: what the judge read, compared with the requested scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..small_world.scenes.layout import Scene
from ..small_world.scenes.sprites import thing_index
from ..small_world.scenes.things import BACKGROUNDS
from .judge import LAYOUTS, Reading


@dataclass(frozen=True)
class Verdict:
    """What is right about each picture, bool [B].

    Attributes:
        object: exactly the requested things are there, wherever.
        background: its colour is the requested one.
        place: the layout is the requested one: large, that corner, side by side, or above each other.
        relation: each thing of a pair is where it was requested; for one thing the same as `object` and `place`.
    """

    object: Tensor
    background: Tensor
    place: Tensor
    relation: Tensor

    @property
    def all(self) -> Tensor:
        """Everything is right, bool [B]."""
        return self.background & self.relation


def verdict(reading: Reading, scenes: Sequence[Scene]) -> Verdict:
    """Compares readings with the requested scenes."""
    names = list(BACKGROUNDS)
    background = torch.tensor([names.index(scene.background) for scene in scenes])
    layout = torch.tensor([LAYOUTS.index(_layout(scene)) for scene in scenes])
    things = torch.tensor([_things(scene) for scene in scenes])
    place = reading.layout == layout
    exact = (reading.things == things).all(1)
    return Verdict(
        (reading.things.sort(1).values == things.sort(1).values).all(1),
        reading.background == background,
        place,
        place & exact,
    )


def _layout(scene: Scene) -> tuple[str, ...]:
    return next(places for places in LAYOUTS if set(places) == set(scene.places))


def _things(scene: Scene) -> list[int]:
    """Numbers of the things, in the order of the layout's places; -1 where there is one thing only."""
    at = dict(zip(scene.places, scene.things, strict=True))
    numbers = [thing_index(at[place]) for place in _layout(scene)]
    return numbers + [-1] * (2 - len(numbers))
