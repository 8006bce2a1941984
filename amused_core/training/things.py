"""The word list of the embedded model: what it can draw, and on which backgrounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """One drawable thing.

    `glyph` is the emoji that pictures it, `adjectives` are words that may come before the noun (mostly its colour),
    `plural` is its plural and `aliases` are other nouns for it.
    """

    name: str
    glyph: str
    adjectives: tuple[str, ...]
    plural: str
    aliases: tuple[str, ...] = ()


def _thing(name: str, glyph: str, adjectives: str, plural: str = "", aliases: str = "") -> Thing:
    return Thing(
        name, glyph, tuple(adjectives.split()), plural or name + "s", tuple(a for a in aliases.split(",") if a)
    )


THINGS: tuple[Thing, ...] = (
    _thing("apple", "\U0001f34e", "red"),
    _thing("banana", "\U0001f34c", "yellow peeled"),
    _thing("strawberry", "\U0001f353", "red", "strawberries"),
    _thing("watermelon", "\U0001f349", "red"),
    _thing("grapes", "\U0001f347", "purple", "grapes"),
    _thing("pineapple", "\U0001f34d", "yellow"),
    _thing("carrot", "\U0001f955", "orange"),
    _thing("mushroom", "\U0001f344", "red"),
    _thing("pizza", "\U0001f355", "yellow", aliases="slice of pizza"),
    _thing("burger", "\U0001f354", "brown", aliases="hamburger"),
    _thing("ice cream", "\U0001f366", "white", "ice creams"),
    _thing("cake", "\U0001f382", "white", aliases="birthday cake"),
    _thing("donut", "\U0001f369", "brown chocolate", aliases="doughnut"),
    _thing("cat", "\U0001f431", "yellow orange", aliases="cat face,kitten"),
    _thing("dog", "\U0001f436", "white brown", aliases="dog face,puppy"),
    _thing("fish", "\U0001f420", "orange yellow", "fishes"),
    _thing("butterfly", "\U0001f98b", "orange", "butterflies"),
    _thing("frog", "\U0001f438", "green"),
    _thing("penguin", "\U0001f427", "black"),
    _thing("turtle", "\U0001f422", "green"),
    _thing("ladybug", "\U0001f41e", "red", aliases="ladybird"),
    _thing("pig", "\U0001f437", "pink"),
    _thing("panda", "\U0001f43c", "white"),
    _thing("crab", "\U0001f980", "red"),
    _thing("owl", "\U0001f989", "brown"),
    _thing("car", "\U0001f697", "red"),
    _thing("bus", "\U0001f68c", "blue", "buses"),
    _thing("rocket", "\U0001f680", "red"),
    _thing("boat", "\u26f5", "orange red", aliases="sailboat"),
    _thing("sun", "\u2600", "yellow"),
    _thing("moon", "\U0001f319", "yellow"),
    _thing("star", "\u2b50", "yellow"),
    _thing("tree", "\U0001f333", "green"),
    _thing("cactus", "\U0001f335", "green", "cactuses"),
    _thing("flower", "\U0001f33b", "yellow", aliases="sunflower"),
    _thing("rose", "\U0001f339", "red"),
    _thing("rainbow", "\U0001f308", "colorful"),
    _thing("snowman", "\u26c4", "white", "snowmen"),
    _thing("fire", "\U0001f525", "orange", aliases="flame"),
    _thing("house", "\U0001f3e0", "brown", aliases="home"),
    _thing("heart", "\u2764", "red"),
    _thing("key", "\U0001f511", "yellow golden"),
    _thing("umbrella", "\u2602", "purple"),
    _thing("guitar", "\U0001f3b8", "red"),
    _thing("ball", "\u26bd", "white", aliases="soccer ball,football"),
    _thing("clock", "\u23f0", "red", aliases="alarm clock"),
    _thing("balloon", "\U0001f388", "red"),
    _thing("crown", "\U0001f451", "golden yellow"),
    _thing("gift", "\U0001f381", "yellow", aliases="present"),
    _thing("robot", "\U0001f916", "grey gray"),
)

# Flat, clearly nameable colours, sRGB 0..255. The first one is drawn when a prompt names no background.
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "yellow": (255, 232, 120),
    "blue": (88, 150, 236),
    "green": (120, 200, 130),
}
