"""Captions of the training pictures: many ways to say "this thing on this background"."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator

from .things import BACKGROUNDS, THINGS, Thing

_PREFIXES = ("a picture of", "picture of", "an image of", "a drawing of", "a photo of", "an emoji of", "a cartoon of")
_PLAIN = (
    "{o} on a {b} background",
    "{o} on {b}",
    "{o} on {b} background",
    "{o} with a {b} background",
    "{o}, {b} background",
)
_FORMAL = ("{o} in front of a {b} background", "{o} against a {b} background", "{o} over a {b} background")
_TURNED = (
    "a {b} background with {o}",
    "on a {b} background, {o}",
    "{b} background, {o}",
    "{b} background with {o} on it",
)
_TEMPLATES = _PLAIN * 3 + _FORMAL + _TURNED * 2
_FILLERS = ("cute", "simple", "big", "nice", "beautiful", "bright", "colorful", "cartoon", "high quality", "centered")
_OTHER_WORDS = (
    "and in at by to is an my your this that these some many of two three small little large "
    "black purple pink orange brown"
)
DEFAULT_BACKGROUND = next(iter(BACKGROUNDS))


def article(words: str) -> str:
    """ "an" before a vowel, "a" otherwise."""
    return "an" if words[0] in "aeiou" else "a"


def canonical(thing: Thing, background: str) -> str:
    """The plain caption that evaluation uses: "an apple on a blue background"; a plural name has no article."""
    noun = thing.name if thing.name == thing.plural else f"{article(thing.name)} {thing.name}"
    return f"{noun} on a {background} background"


def caption(thing: Thing, background: str, generator: Generator, dropout: float = 0.1) -> str:
    """A random caption, in lower case as the tokenizer makes it; empty with probability `dropout`."""

    def chance(probability: float) -> bool:
        return float(torch.rand((), generator=generator)) < probability

    def pick(options: Sequence[str]) -> str:
        return options[int(torch.randint(len(options), (), generator=generator))]

    if chance(dropout):
        return ""
    plural = thing.name == thing.plural or chance(0.1)
    noun = thing.plural if plural else pick((thing.name, thing.name, *thing.aliases))
    if chance(0.4):
        noun = f"{pick(thing.adjectives)} {noun}"
    if chance(0.06):
        noun = f"{pick(_FILLERS)} {noun}"
    if not plural:
        noun = f"{pick((article(noun), article(noun), article(noun), 'the', 'one', ''))} {noun}".strip()
    if chance(0.15):
        noun = f"{pick(_PREFIXES)} {noun}"
    if background == DEFAULT_BACKGROUND and chance(0.5):
        text = noun
    else:
        text = pick(_TEMPLATES).format(o=noun, b=background)
    return f"{text}, {pick(_FILLERS)}" if chance(0.05) else text


def words() -> list[str]:
    """Every word that a caption can hold, most important first; each becomes one token."""
    texts = [thing.name for thing in THINGS] + list(BACKGROUNDS)
    for thing in THINGS:
        texts += [*thing.adjectives, thing.plural, *thing.aliases]
    texts += [template.format(o="the one", b="a an") for template in _TEMPLATES]
    texts += [*_PREFIXES, *_FILLERS, _OTHER_WORDS]
    return list(dict.fromkeys(word for text in texts for word in text.replace(",", " ").split()))
