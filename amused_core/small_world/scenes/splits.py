"""Random scenes, and which of them training must never see."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator

from .layout import CORNERS, RELATIONS, Scene
from .sprites import thing_index
from .things import BACKGROUNDS, THINGS

_BACKGROUND_NAMES = tuple(BACKGROUNDS)


def random_scene(
    generator: Generator, single: float = 0.5, corner: float = 0.15, things: Sequence[int] | None = None
) -> Scene:
    """One large thing with probability `single`, one in a corner with `corner`, otherwise two different things.

    `things`: numbers of the two things to take (the first alone, or both); None for any.
    """

    def index(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    if things is None:
        start = index(len(THINGS))
        things = (start, (start + 1 + index(len(THINGS) - 1)) % len(THINGS))
    first, second = (THINGS[number].name for number in things)
    background = _BACKGROUND_NAMES[index(len(_BACKGROUND_NAMES))]
    choice = float(torch.rand((), generator=generator))
    if choice < single:
        return Scene.single(first, background)
    if choice < single + corner:
        return Scene.single(first, background, CORNERS[index(len(CORNERS))])
    return Scene.pair(first, list(RELATIONS)[index(len(RELATIONS))], second, background)


def held_out(scene: Scene) -> bool:
    """Whether training leaves this scene out, so that evaluation can ask for something new.

    That is one background in ten for every thing, alone or with another, and one ordered pair of things in ten.
    """
    numbers = [thing_index(name) for name in scene.things]
    background = _BACKGROUND_NAMES.index(scene.background)
    if any((7 * number + background) % 10 == 3 for number in numbers):
        return True
    return len(numbers) == 2 and (3 * numbers[0] + 7 * numbers[1]) % 10 == 5
