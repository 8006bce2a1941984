"""Prompts in words that training never used: `scenes/captions.py` has none of these templates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator

from ..small_world.scenes.captions import article, relation, with_article
from ..small_world.scenes.layout import WHOLE, Scene
from ..small_world.scenes.sprites import thing_index
from ..small_world.scenes.things import THINGS

# {o}: the thing (with {p} the second one), {b}: the background, {c}: the corner.
LARGE = (
    "{o}, {b} behind it",
    "picture of {o}, and {b} everywhere around it",
    "{b} is the background colour, {o} is the subject",
    "on something {b} there is {o}",
    "could you draw {o} on a background that is {b}?",
    "the background should be {b} and the object {o}",
    "{b} wallpaper with {o} in the middle",
    "just {o}, all {b} around",
    "{o} upon a {b} backdrop",
    "i would like to see {o} on {b} please",
    "{b} all over, and {o} in the centre",
    "here is {o}: its background is {b}",
)
CORNER = (
    "in the {c} there is {o}, the background is {b}",
    "the {c} corner has {o}, everything else is {b}",
    "{b} background; put {o} into the {c} corner",
    "{o} sits in the {c} corner of a {b} picture",
)
PAIR = {
    "left of": ("{o} is left of {p}, both on {b}", "we see {o} to the left of {p}, the background is all {b}"),
    "right of": ("{o} is right of {p}, both on {b}", "we see {o} to the right of {p}, the background is all {b}"),
    "above": ("{o} is above {p}, both on {b}", "we see {o} above {p}, the background is all {b}"),
    "below": ("{o} is below {p}, both on {b}", "we see {o} below {p}, the background is all {b}"),
}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SHORTEST = 5


def reword(scene: Scene, number: int, generator: Generator) -> tuple[str, str]:
    """A prompt for `scene` in way `number` of `WAYS`: the text and the name of the way."""
    way = list(WAYS)[number % len(WAYS)]
    return WAYS[way](scene, generator), way


def _with(scene: Scene, nouns: list[str], generator: Generator) -> str:
    """A random template of this kind of scene, filled in."""
    if len(nouns) == 2:
        templates = PAIR[relation(scene)]
    else:
        templates = LARGE if scene.places[0] == WHOLE else CORNER
    template = _pick(templates, generator)
    first, second = [*nouns, ""][:2]
    text = template.format(o=first, p=second, b=scene.background, c=scene.places[0])
    return text.replace("a orange", "an orange")


def _plain(scene: Scene, generator: Generator) -> str:
    return _with(scene, [with_article(THINGS[thing_index(name)]) for name in scene.things], generator)


def _bare(scene: Scene, generator: Generator) -> str:
    return _with(scene, list(scene.things), generator)


def _definite(scene: Scene, generator: Generator) -> str:
    return _with(scene, [f"the {name}" for name in scene.things], generator)


def _plural(scene: Scene, generator: Generator) -> str:
    return _with(scene, [THINGS[thing_index(name)].plural for name in scene.things], generator)


def _upper(scene: Scene, generator: Generator) -> str:
    return _plain(scene, generator).upper()


def _other_name(scene: Scene, generator: Generator) -> str:
    """Another name of the thing where it has one, else an adjective, else the plain name."""
    nouns = []
    for thing in (THINGS[thing_index(name)] for name in scene.things):
        if thing.aliases:
            noun = _pick(thing.aliases, generator)
        else:
            noun = f"{_pick(thing.adjectives, generator)} {thing.name}" if thing.adjectives else thing.name
        nouns.append(noun if thing.name == thing.plural else f"{article(noun)} {noun}")
    return _with(scene, nouns, generator)


def _typo(scene: Scene, generator: Generator) -> str:
    """One letter of one word is wrong, missing or doubled; the first letter stays."""
    words = _plain(scene, generator).split(" ")
    long = [index for index, word in enumerate(words) if len(word.strip(",:;?")) >= _SHORTEST]
    if not long:
        long = [max(range(len(words)), key=lambda index: len(words[index]))]
    which = long[_index(len(long), generator)]
    word = words[which]
    at = 1 + _index(len(word.strip(",:;?")) - 1, generator)
    letter = (_LETTERS[_index(26, generator)], "", word[at] * 2)[_index(3, generator)]
    words[which] = word[:at] + letter + word[at + 1 :]
    return " ".join(words)


WAYS: dict[str, Callable[[Scene, Generator], str]] = {
    "template": _plain,
    "no article": _bare,
    "the": _definite,
    "plural": _plural,
    "upper case": _upper,
    "other name": _other_name,
    "typo": _typo,
}


def _pick(options: tuple[str, ...], generator: Generator) -> str:
    return options[_index(len(options), generator)]


def _index(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
