"""The prompt set `vague`: prompts with several right answers, and exactly which these are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..small_world.scenes.layout import RELATIONS
from ..small_world.scenes.things import COLOURED, KINDS
from ..small_world.scenes.vague import ANY_CORNER, ANY_RELATION, ANYTHING, EVERYTHING, IN_ORDER, Answers

VAGUE = "vague"
"""The name of the set."""
_KIND = {kind.name: kind.things for kind in KINDS}


@dataclass(frozen=True)
class Question:
    """A vague prompt: its text, its right answers, and what it leaves open in a word."""

    text: str
    answers: Answers
    kind: str

    @cached_property
    def choices(self) -> dict[str, dict[str, float]]:
        """What it leaves open, and how likely each possibility is where all right answers are equally likely."""
        return self.answers.choices()


def _large(what: tuple[str, ...], *backgrounds: str) -> Answers:
    return Answers((what,), backgrounds=backgrounds) if backgrounds else Answers((what,))


QUESTIONS = (
    Question("an animal on a blue background", _large(_KIND["animal"], "blue"), "kind"),
    Question("a fruit on a white background", _large(_KIND["fruit"], "white"), "kind"),
    Question("a vehicle on a yellow background", _large(_KIND["vehicle"], "yellow"), "kind"),
    Question("something red on a white background", _large(COLOURED["red"], "white"), "colour"),
    Question("an animal", _large(_KIND["animal"]), "kind and background"),
    Question("a cat", _large(("cat",)), "background"),
    Question("a guitar", _large(("guitar",)), "background"),
    Question("a cat in a corner on a pink background", Answers((("cat",),), ANY_CORNER, ("pink",)), "place"),
    Question(
        "a cat and a house on a green background",
        Answers((("cat",), ("house",)), ANY_RELATION, ("green",)),
        "arrangement",
    ),
    Question(
        "two fruits on a blue background",
        Answers((_KIND["fruit"], _KIND["fruit"]), IN_ORDER, ("blue",)),
        "two of a kind",
    ),
    Question(
        "a cat above a vehicle on a white background",
        Answers((("cat",), _KIND["vehicle"]), (RELATIONS["above"],), ("white",)),
        "kind",
    ),
    Question(
        "a cat and something else on a yellow background",
        Answers((("cat",), ANYTHING), ANY_RELATION, ("yellow",)),
        "something else",
    ),
    Question("", EVERYTHING, "everything"),
)

FILLINGS = tuple(question for question in QUESTIONS if question.text and len(question.answers.things[-1]) > 1)
"""Those whose last thing is open, for inpainting."""


def questions(count: int) -> list[Question]:
    """`count` questions: `QUESTIONS` in turn."""
    return [QUESTIONS[number % len(QUESTIONS)] for number in range(count)]
