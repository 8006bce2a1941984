"""Captions of scenes: the plain one, and random ones in many words for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator

from .layout import CORNERS, RELATIONS, WHOLE, Scene
from .sprites import thing_index
from .things import BACKGROUNDS, THINGS, Thing

_PREFIXES = (
    "a picture of", "picture of", "an image of", "image of", "a drawing of", "a photo of", "photo of", "an emoji of",
    "a cartoon of", "an illustration of", "draw", "please draw", "show me", "paint", "create", "generate", "i want",
    "a painting of", "a photo showing", "there is",
)  # fmt: skip
_ON_BACKGROUND = (
    "{o} on a {b} background", "{o} on a {b} background", "{o} on {b} background", "{o} on {b}",
    "{o} with a {b} background", "{o}, {b} background", "{o} in front of a {b} background",
    "{o} against a {b} background", "{o} over a {b} background", "{o} on a {b} backdrop", "{o} {b} background",
    "{o} with {b} background", "{o}, on {b}", "{o}. {b} background", "{o}, background {b}", "{o} on the {b} background",
    "{o} - {b} background", "{o} and a {b} background", "{o} and the background is {b}", "{o}, the background is {b}",
    "a {b} background with {o}", "on a {b} background, {o}", "{b} background, {o}", "{b} background with {o} on it",
    "{b} background and {o}", "on {b}, {o}", "a {b} background and {o}", "on a {b} background {o}",
    "{b} background {o}", "background {b}, {o}", "with a {b} background, {o}", "against a {b} background, {o}",
)  # fmt: skip
_IN_CORNER = (
    "{o} in the {c} corner", "{o} in the {c} corner", "{o} in the {c}", "{o} at the {c}", "{o} {c}", "{o}, {c} corner",
    "{o} in {c} corner", "{c} corner: {o}", "{c}: {o}", "in the {c} corner, {o}", "in the {c}, {o}", "{o} on the {c}",
    "{o} at {c}", "{o} placed in the {c} corner", "{o} in the corner at the {c}", "{c} corner, {o}",
)  # fmt: skip
_CORNER_NAMES: dict[str, tuple[str, ...]] = {
    "top left": ("top left", "upper left", "top-left", "left top", "upper left hand"),
    "top right": ("top right", "upper right", "top-right", "right top", "upper right hand"),
    "bottom left": ("bottom left", "lower left", "bottom-left", "left bottom", "lower left hand"),
    "bottom right": ("bottom right", "lower right", "bottom-right", "right bottom", "lower right hand"),
}
# "{o}" is the first thing, "{p}" the second.
_RELATED: dict[str, tuple[str, ...]] = {
    "left of": (
        "{o} left of {p}", "{o} left of {p}", "{o} to the left of {p}", "{o} on the left of {p}", "{o} left, {p} right",
        "{o} on the left and {p} on the right", "{o} at the left of {p}", "left {o}, right {p}",
        "{o} on the left, {p} on the right", "on the left {o}, on the right {p}", "{o} on the left side of {p}",
    ),
    "right of": (
        "{o} right of {p}", "{o} right of {p}", "{o} to the right of {p}", "{o} on the right of {p}",
        "{o} right, {p} left", "{o} on the right and {p} on the left", "{o} at the right of {p}",
        "{o} on the right, {p} on the left", "{o} on the right side of {p}", "on the right {o}, on the left {p}",
    ),
    "above": (
        "{o} above {p}", "{o} above {p}", "{o} over {p}", "{o} on top of {p}", "{o} at the top and {p} at the bottom",
        "{o} on top, {p} below", "above {p} is {o}", "{o} higher than {p}", "{o} top, {p} bottom",
        "{o} above, {p} below",
    ),
    "below": (
        "{o} below {p}", "{o} below {p}", "{o} under {p}", "{o} beneath {p}", "{o} underneath {p}",
        "{o} at the bottom and {p} at the top", "below {p} is {o}", "{o} lower than {p}", "{o} bottom, {p} top",
        "{o} below, {p} above",
    ),
}  # fmt: skip
# Two things in either order, beside each other (`BESIDE`) or anywhere (`TOGETHER`).
BESIDE = ("{o} and {p} side by side", "{o} next to {p}", "{o} beside {p}")
TOGETHER = ("{o} and {p}", "{o} with {p}", "{o}, {p}")
_SHADES = ("plain", "solid", "flat", "bright", "light", "simple", "pure", "dark", "deep", "clean")
_FILLERS = (
    "cute", "simple", "big", "nice", "beautiful", "bright", "colorful", "cartoon", "large", "single", "shiny", "happy",
    "tiny", "small", "little", "huge", "pretty", "lovely", "fresh", "new", "old", "great", "realistic", "flat", "funny",
)  # fmt: skip
_TAILS = (
    "high quality", "centered", "in the style of van gogh", "4k", "highly detailed", "digital art", "minimalist",
    "please", "studio light", "emoji", "clip art", "vector art", "icon", "best quality", "8k, masterpiece",
    "in the middle", "sharp focus", "isolated", "watercolor", "oil painting", "3d render", "pixel art", "thank you",
)  # fmt: skip
# Words that mean nothing here and are no tokens of their own: a prompt is full of such words.
_JUNK = (
    "i you we he she it be was were been would could should might will can do does did like love need hope want see "
    "look watch find have has had get make made put give take let go come say think know just only really quite so "
    "much more most all every everything each other another same such both whole entire full empty here where when "
    "while which who that than then also too again ever never always often maybe perhaps behind around everywhere "
    "across about between during through wall wallpaper paper sheet canvas page scene view surface area space place "
    "ground floor sky color colour tone paint painted colored plain filled covered subject object main thing things "
    "item figure element idea mood day night morning evening summer winter friend child man woman people world city "
    "street room for from into onto "
).split()
_JOINTS = (", ", " ", " and ", ": ", "; ", ". ", " - ")
_OTHER_WORDS = "in at by to is an my your this that these some many of two three four five brown from there are very"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Chance:
    """Random choices from one generator."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def __call__(self, probability: float) -> bool:
        """True with this probability."""
        return float(torch.rand((), generator=self.generator)) < probability

    def index(self, count: int) -> int:
        """0 to `count` - 1."""
        return int(torch.randint(count, (), generator=self.generator))

    def pick(self, options: Sequence[Any]) -> Any:
        """One of them."""
        return options[self.index(len(options))]


def article(words: str) -> str:
    """ "an" before a vowel, "a" otherwise ("a unicorn", "a ufo")."""
    return "an" if words[0] in "aeio" or words.startswith("um") else "a"


def with_article(thing: Thing) -> str:
    """ "a cat", "an apple", "grapes"."""
    return thing.name if thing.name == thing.plural else f"{article(thing.name)} {thing.name}"


def plain_caption(scene: Scene) -> str:
    """The plain caption: "an apple on a blue background", "a cat left of a dog on a yellow background"."""
    names = [with_article(THINGS[thing_index(name)]) for name in scene.things]
    ground = f"on {article(scene.background)} {scene.background} background"
    if len(names) == 2:
        return f"{names[0]} {relation(scene)} {names[1]} {ground}"
    place = "" if scene.places[0] == WHOLE else f" in the {scene.places[0]} corner"
    return f"{names[0]}{place} {ground}"


def relation(scene: Scene) -> str:
    """The relation of a scene's first thing to its second."""
    return next(name for name, places in RELATIONS.items() if places == scene.places)


def caption(scene: Scene, generator: Generator, dropout: float = 0.1, noise: float = 1.0) -> str:
    """A random caption in lower case that names everything; empty with probability `dropout`.

    `noise` scales how often there are words that mean nothing here, wrong colours and typing errors.
    """
    chance = Chance(generator)
    if chance(dropout):
        return ""
    nouns = [random_noun(THINGS[thing_index(name)], chance, noise) for name in scene.things]
    if len(nouns) == 2:
        plain = f"{{o}} {relation(scene)} {{p}}"
        text = (plain if chance(0.5) else chance.pick(_RELATED[relation(scene)])).format(o=nouns[0], p=nouns[1])
    elif scene.places[0] in CORNERS:
        text = in_corner(nouns[0], scene.places[0], chance)
    else:
        text = nouns[0]
    return with_noise(on_background(with_prefix(text, chance), scene.background, chance, noise), chance, noise)


def in_corner(noun: str, corner: str, chance: Chance) -> str:
    """`noun` in a corner, in random words."""
    return chance.pick(_IN_CORNER).format(o=noun, c=chance.pick(_CORNER_NAMES[corner]))


def related(first: str, relation: str, second: str, chance: Chance) -> str:
    """`first` in a relation to `second`, in random words."""
    return chance.pick(_RELATED[relation]).format(o=first, p=second)


def with_prefix(text: str, chance: Chance) -> str:
    """`text`, sometimes behind "a picture of" and the like."""
    return f"{chance.pick(_PREFIXES)} {text}" if chance(0.15) else text


def on_background(text: str, colour: str, chance: Chance, noise: float) -> str:
    """`text` with the name of its background, in random words."""
    if colour == "gray" and chance(0.5):
        colour = "grey"
    if chance(0.06):
        colour = f"{chance.pick(_SHADES)} {colour}"
    if chance(0.2 * noise):
        ground = " ".join([*_junk(chance, 3), colour, *_junk(chance, 3)])
        parts = (text, ground) if chance(0.5) else (ground, text)
        return chance.pick(_JOINTS).join(parts)
    return chance.pick(_ON_BACKGROUND).format(o=text, b=colour).replace("a orange", "an orange")


def with_noise(text: str, chance: Chance, noise: float) -> str:
    """`text`, sometimes with words that mean nothing here or a typing error."""
    if chance(0.25 * noise):
        text = _scatter(text, chance)
    if chance(0.08 * noise):
        text = f"{text}, {chance.pick(_TAILS)}" if chance(0.7) else f"{text} {_gibberish(chance)}"
    if chance(0.12 * noise):
        text = _typo(text, chance)
    return text


def random_noun(thing: Thing, chance: Chance, noise: float) -> str:
    """A name of `thing` with or without article, adjective and filler."""
    plural = thing.name == thing.plural or chance(0.07)
    noun = thing.plural if plural else chance.pick((thing.name, thing.name, *thing.aliases))
    if thing.adjectives and chance(0.25):
        noun = f"{chance.pick(thing.adjectives)} {noun}"
    elif chance(0.05 * noise):
        noun = f"{chance.pick(list(BACKGROUNDS))} {noun}"
    if chance(0.1 * noise):
        noun = f"{chance.pick(_FILLERS)} {noun}"
    if not plural:
        some = article(noun)
        noun = f"{chance.pick((some, some, some, some, 'the', 'one', ''))} {noun}".strip()
    return noun


def _junk(chance: Chance, most: int) -> list[str]:
    """Up to `most` words that mean nothing here, a fifth of them no words at all."""
    return [_gibberish(chance) if chance(0.2) else chance.pick(_JUNK) for _ in range(chance.index(most + 1))]


def _scatter(text: str, chance: Chance) -> str:
    """Words that mean nothing here, put in before, behind and between."""
    words = text.split(" ")
    for word in _junk(chance, 5):
        at = chance.pick((0, len(words), chance.index(len(words) + 1)))
        words.insert(at, word)
    return " ".join(words)


def _gibberish(chance: Chance) -> str:
    return "".join(chance.pick(_LETTERS) for _ in range(3 + chance.index(5)))


def _typo(text: str, chance: Chance) -> str:
    """One word of at least four letters with two letters swapped, one dropped, doubled or replaced."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) >= 4]
    if not long:
        return text
    which = long[chance.index(len(long))]
    word = words[which]
    at = chance.index(len(word) - 1)
    kind = chance.index(4)
    if kind == 0:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif kind == 1:
        word = word[: at + 1] + word[at + 2 :]
    elif kind == 2:
        word = word[: at + 1] + word[at:]
    else:
        word = word[: at + 1] + chance.pick(_LETTERS) + word[at + 2 :]
    words[which] = word
    return " ".join(words)


def words() -> list[str]:
    """Every word that a caption without typing errors can hold, most important first; each becomes one token."""
    texts = [thing.name for thing in THINGS] + list(BACKGROUNDS) + ["grey"]
    for thing in THINGS:
        texts += [*thing.adjectives, thing.plural, *thing.aliases]
    for templates in (_ON_BACKGROUND, _IN_CORNER, *_RELATED.values(), BESIDE, TOGETHER):
        texts += [template.format(o="the one", p="a", b="a an", c="") for template in templates]
    texts += [name for names in _CORNER_NAMES.values() for name in names]
    texts += [*_PREFIXES, *_SHADES, *_FILLERS, *_TAILS, _OTHER_WORDS]
    for mark in ",.:-":
        texts = [text.replace(mark, " ") for text in texts]
    return list(dict.fromkeys(word for text in texts for word in text.split()))
