"""Vague prompts: those with several right answers, and which scenes these are.

A prompt leaves open what it does not say: which animal ("an animal"), which background ("a cat"), which corner
("a cat in a corner"), which arrangement ("a cat and a dog"). Every answer is equally right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import Generator

from .captions import BESIDE, TOGETHER, Chance, in_corner, on_background, random_noun, related, with_noise, with_prefix
from .layout import CORNERS, RELATIONS, WHOLE, Scene
from .splits import held_out
from .things import BACKGROUNDS, COLOURED, KINDS, THINGS, Kind

LARGE: tuple[tuple[str, ...], ...] = ((WHOLE,),)
ANY_CORNER: tuple[tuple[str, ...], ...] = tuple((corner,) for corner in CORNERS)
ANY_RELATION: tuple[tuple[str, ...], ...] = tuple(RELATIONS.values())
IN_ORDER = (RELATIONS["left of"], RELATIONS["above"])
"""The arrangements of two things of which either may be the first: each picture once."""
ANYTHING = tuple(thing.name for thing in THINGS)
_BACKGROUNDS = tuple(BACKGROUNDS)

_SOMETHING_ELSE = ("something else", "another thing", "anything else", "some other thing")
_SOMETHING = ("something", "anything", "a thing", "some thing")
_A_CORNER = ("{o} in a corner", "{o} in any corner", "{o} in one corner", "{o} in the corner", "in a corner, {o}")


@dataclass(frozen=True)
class Answers:
    """The scenes that are right answers: every combination of the choices, but no thing twice.

    Attributes:
        things: what may be at each place: names of things.
        placements: `Scene.places` to choose from; one that is listed twice counts twice.
        backgrounds: names.
    """

    things: tuple[tuple[str, ...], ...]
    placements: tuple[tuple[str, ...], ...] = LARGE
    backgrounds: tuple[str, ...] = _BACKGROUNDS

    def draw(self, generator: Generator) -> Scene:
        """A random answer, each equally often, none that training leaves out (there must be others)."""

        def pick(options: Sequence[tuple[str, ...] | str]) -> tuple[str, ...] | str:
            return options[int(torch.randint(len(options), (), generator=generator))]

        while True:
            places = pick(self.placements)
            names = tuple(pick(options) for options in self.things[: len(places)])
            scene = Scene(names, places, pick(self.backgrounds))
            if len(set(names)) == len(names) and not held_out(scene):
                return scene

    def scenes(self) -> Iterator[Scene]:
        """All answers, with those that training leaves out."""
        for places, background in product(dict.fromkeys(self.placements), self.backgrounds):
            for names in product(*self.things[: len(places)]):
                if len(set(names)) == len(names):
                    yield Scene(names, places, background)

    def choices(self) -> dict[str, dict[str, float]]:
        """What is left open, as `describe` names it -> the probability of each possibility in `draw`."""
        totals: dict[str, dict[str, float]] = {}
        for count in sorted({len(places) for places in self.placements}):
            placements = [places for places in self.placements if len(places) == count]
            for background, names in product(self.backgrounds, product(*self.things[:count])):
                if len(set(names)) < count or held_out(Scene(names, placements[0], background)):
                    continue
                weight = 1 / prod(map(len, self.things[:count]))
                for places in dict.fromkeys(placements):
                    for what, name in describe(Scene(names, places, background)).items():
                        shares = totals.setdefault(what, {})
                        shares[name] = shares.get(name, 0.0) + weight * placements.count(places)
        return {
            what: {name: share / sum(shares.values()) for name, share in shares.items()}
            for what, shares in totals.items()
            if len(shares) > 1
        }

    def match(self, scene: Scene) -> Scene | None:
        """The answer that looks like `scene`, whatever the order of its two things; None where there is none."""
        if len(set(scene.things)) < len(scene.things):
            return None
        for one in (scene, Scene(scene.things[::-1], scene.places[::-1], scene.background)):
            allowed = zip(one.things, self.things, strict=False)
            if (
                one.places in self.placements
                and one.background in self.backgrounds
                and all(name in names for name, names in allowed)
            ):
                return one
        return None


def describe(scene: Scene) -> dict[str, str]:
    """What can be left open about `scene`: its things, where they are, and the background."""
    things = {f"{order} thing": name for order, name in zip(("first", "second"), scene.things, strict=False)}
    return {**things, "place": ", ".join(scene.places), "background": scene.background}


EVERYTHING = Answers((ANYTHING, ANYTHING), LARGE * 4 + ANY_CORNER + IN_ORDER * 2)
"""What the empty prompt may show: one large thing, one in a corner and two things equally often."""


def vague_caption(generator: Generator, noise: float = 1.0) -> tuple[str, Answers]:
    """A random vague caption in lower case, and its right answers; one in twelve is the empty one.

    `noise`: as in `captions.caption`.
    """
    while True:
        text, answers = _any_caption(Chance(generator), noise)
        if not all(map(held_out, answers.scenes())):
            return text, answers


def _any_caption(chance: Chance, noise: float) -> tuple[str, Answers]:
    if chance(1 / 12):
        return "", EVERYTHING
    text, things, placements = chance.pick((_one, _one, _one, _corner, _two))(chance, noise)
    text = with_prefix(text, chance)
    backgrounds = _BACKGROUNDS
    if chance(0.5):
        backgrounds = (chance.pick(_BACKGROUNDS),)
        text = on_background(text, backgrounds[0], chance, 0.5 * noise)
    return with_noise(text, chance, 0.5 * noise), Answers(things, placements, backgrounds)


Phrase = tuple[str, tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]
"""Words, and the things and placements that they allow."""


def _one(chance: Chance, noise: float) -> Phrase:
    noun, things = _noun(chance, noise) if chance(0.25) else _vague_noun(chance)
    return noun, (things,), LARGE


def _corner(chance: Chance, noise: float) -> Phrase:
    noun, things = _noun(chance, noise) if chance(0.5) else _vague_noun(chance)
    if len(things) > 1 and chance(0.4):
        corner = chance.pick(CORNERS)
        return in_corner(noun, corner, chance), (things,), ((corner,),)
    return chance.pick(_A_CORNER).format(o=noun), (things,), ANY_CORNER


def _two(chance: Chance, noise: float) -> Phrase:
    form = chance.index(4)
    if form == 0:  # "two fruits"
        kind = _kind(chance)
        return f"{chance.pick(('two', 'two different', '2'))} {kind.plural}", (kind.things, kind.things), IN_ORDER
    first, things = _noun(chance, noise) if chance(0.7) else _vague_noun(chance)
    if form == 1:  # "a cat and something else"
        words = chance.pick(("{o} and {p}", "{o} with {p}")).format(o=first, p=chance.pick(_SOMETHING_ELSE))
        return words, (things, ANYTHING), ANY_RELATION
    second, others = _noun(chance, noise) if chance(0.5) else _vague_noun(chance)
    if set(things) == set(others) and len(things) == 1:
        return _two(chance, noise)
    if form == 2:  # "a cat and a dog"
        placements = ANY_RELATION
        words = chance.pick(TOGETHER)
        if chance(0.3):
            placements, words = (RELATIONS["left of"], RELATIONS["right of"]), chance.pick(BESIDE)
        return words.format(o=first, p=second), (things, others), placements
    relation = chance.pick(list(RELATIONS))  # "an animal above a cat"
    return related(first, relation, second, chance), (things, others), (RELATIONS[relation],)


def _noun(chance: Chance, noise: float) -> tuple[str, tuple[str, ...]]:
    thing = chance.pick(THINGS)
    return random_noun(thing, chance, 0.5 * noise), (thing.name,)


def _vague_noun(chance: Chance) -> tuple[str, tuple[str, ...]]:
    form = chance.index(10)
    if form == 0:
        return chance.pick(_SOMETHING), ANYTHING
    if form < 4:
        colour = chance.pick(list(COLOURED))
        return chance.pick(("something {c}", "something {c}", "a {c} thing", "anything {c}")).format(
            c=colour
        ), COLOURED[colour]
    kind = _kind(chance)
    some = "an" if kind.name[0] in "ai" else "a"
    article = chance.pick((some, some, some, some, "any", "some", "one", ""))
    return f"{article} {kind.name}".strip(), kind.things


def _kind(chance: Chance) -> Kind:
    """A kind; one of many things more often."""
    return chance.pick([kind for kind in KINDS for _ in range(1 + len(kind.things) // 10)])
