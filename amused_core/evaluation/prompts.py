"""Four sets of prompts, each with the scene that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import count as count_up
from typing import NamedTuple

import torch
from torch import Generator

from ..errors import AmusedError
from ..small_world.scenes.captions import plain_caption
from ..small_world.scenes.layout import CORNERS, RELATIONS, WHOLE, Scene
from ..small_world.scenes.splits import held_out
from ..small_world.scenes.things import BACKGROUNDS, THINGS
from .wordings import reword

_CORNER_EVERY = 5
"""One single thing in five is in a corner."""
_TURNS = ("large", "large", "large", "large", "corner", "pair")
"""The kinds of scene in `wordings`, in turn."""


class Prompt(NamedTuple):
    """The text, the scene that it asks for, and its kind within the set."""

    text: str
    scene: Scene
    kind: str


def prompts(name: str, count: int, seed: int = 0) -> list[Prompt]:
    """`count` prompts of a set: the same for the same seed, every thing and every background equally often (+-1 or 2).

    seen: plain captions of single things, four in five large, the rest in a corner; nothing held out.
    combinations: the same of things on the one background that training leaves out for each.
    wordings: seen scenes in words of `wordings.py`, which no training caption uses.
    relations: plain captions of two things; every second pair (in this order) is one that training leaves out.

    Raises:
        AmusedError: an unknown set, or fewer than one prompt.
    """
    if name not in SETS:
        raise AmusedError(f"The prompt set is {name!r}; allowed are {', '.join(SETS)}.")
    if count < 1:
        raise AmusedError(f"The number of prompts is {count}; it must be at least 1.")
    generator = Generator()
    generator.manual_seed(seed * 1_000 + list(SETS).index(name))
    make = SETS[name](generator)
    return [next(make) for _ in range(count)]


def _seen(generator: Generator) -> Iterator[Prompt]:
    return _singles(generator, _evenly(_known, generator))


def _combinations(generator: Generator) -> Iterator[Prompt]:
    return _singles(generator, _evenly(lambda thing, colour: not _known(thing, colour), generator))


def _singles(generator: Generator, subjects: Iterator[tuple[str, str]]) -> Iterator[Prompt]:
    for number, (thing, colour) in enumerate(subjects):
        corner = number % _CORNER_EVERY == _CORNER_EVERY - 1
        place = CORNERS[_index(len(CORNERS), generator)] if corner else WHOLE
        scene = Scene.single(thing, colour, place)
        yield Prompt(plain_caption(scene), scene, "corner" if corner else "large")


def _wordings(generator: Generator) -> Iterator[Prompt]:
    singles, pairs = _evenly(_known, generator), _pairs(generator, new=False)
    for number in count_up():
        kind = _TURNS[number % len(_TURNS)]
        if kind == "pair":
            scene = next(pairs)
        else:
            place = CORNERS[_index(len(CORNERS), generator)] if kind == "corner" else WHOLE
            scene = Scene.single(*next(singles), place)
        text, way = reword(scene, number // len(_TURNS), generator)
        yield Prompt(text, scene, f"{kind}, {way}")


def _relations(generator: Generator) -> Iterator[Prompt]:
    sources = [(_pairs(generator, new), kind) for new, kind in ((False, "seen pair"), (True, "new pair"))]
    for number in count_up():
        pairs, kind = sources[number % 2]
        scene = next(pairs)
        yield Prompt(plain_caption(scene), scene, kind)


def _pairs(generator: Generator, new: bool) -> Iterator[Scene]:
    """Pairs on backgrounds that both things are known on; `new`: of things that training never shows in this order."""
    relations = list(RELATIONS)
    subjects = _evenly(lambda thing, colour: bool(_partners(thing, colour, new)), generator)
    for number, (thing, colour) in enumerate(subjects):
        others = _partners(thing, colour, new)
        yield Scene.pair(thing, relations[number % len(relations)], others[_index(len(others), generator)], colour)


@cache
def _partners(thing: str, colour: str, new: bool) -> tuple[str, ...]:
    """The second things of `_pairs`."""
    if not _known(thing, colour):
        return ()
    others = (other.name for other in THINGS if other.name != thing and _known(other.name, colour))
    return tuple(other for other in others if held_out(Scene.pair(thing, "above", other, colour)) == new)


@cache
def _known(thing: str, colour: str) -> bool:
    return not held_out(Scene.single(thing, colour))


def _evenly(allowed: Callable[[str, str], bool], generator: Generator) -> Iterator[tuple[str, str]]:
    """Endless (thing, background): rounds of all things in a new order, each with its least used allowed background."""
    used = dict.fromkeys(BACKGROUNDS, 0)
    while True:
        for number in torch.randperm(len(THINGS), generator=generator).tolist():
            thing = THINGS[number].name
            names = [name for name in BACKGROUNDS if allowed(thing, name)]
            least = min(used[name] for name in names)
            names = [name for name in names if used[name] == least]
            colour = names[_index(len(names), generator)]
            used[colour] += 1
            yield thing, colour


def _index(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


SETS: dict[str, Callable[[Generator], Iterator[Prompt]]] = {
    "seen": _seen,
    "combinations": _combinations,
    "wordings": _wordings,
    "relations": _relations,
}
