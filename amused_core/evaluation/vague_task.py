"""Text to image with vague prompts: valid, mixed or neither, and how evenly the right answers are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..images.psnr import psnr
from ..model import AmusedModel
from ..small_world.scenes.layout import PLACES, SIDE, Scene
from ..small_world.scenes.vague import Answers, describe
from .accuracy import MARGIN
from .coverage import coverage
from .generation import GeneratedImages
from .judge import Reading, read, seen_scene
from .metrics import Number, distinct, number, rate
from .mixture import mixed
from .questions import FILLINGS, Question, questions
from .targets import encode_scenes, make_targets
from .task import CellSettings, Evaluation, TaskResult, cell_name

_EMPTY = "(empty)"


class Findings(NamedTuple):
    """What pictures of vague prompts show.

    Attributes:
        reading: of the judge.
        scenes: the right answer that each is; None: it is none.
        answered: it is one of the right answers, whatever its quality, bool [B].
        valid: it is one by the strict measure, bool [B].
        mixed: it is not valid, but shows parts of several, bool [B].
    """

    reading: Reading
    scenes: list[Scene | None]
    answered: Tensor
    valid: Tensor
    mixed: Tensor


def judge_answers(model: AmusedModel, planes: Tensor, tokens: Tensor, asked: Sequence[Question]) -> Findings:
    """Reads pictures, float [B,3,128,128], and their tokens, int64 [B,h,w], with the question of each."""
    reading = read(planes)
    seen = [seen_scene(reading, index) for index in range(len(planes))]
    scenes = [question.answers.match(scene) if scene else None for question, scene in zip(asked, seen, strict=True)]
    rows = [index for index, scene in enumerate(scenes) if scene is not None]
    valid = torch.zeros(len(planes), dtype=torch.bool)
    if rows:
        every = list(dict.fromkeys(scene for scene in scenes if scene))
        target = make_targets(model, every)
        which = [every.index(scenes[row]) for row in rows]
        valid[rows] = psnr(planes[rows], target.planes[which]) >= target.ceiling[which] - MARGIN
    parts = torch.zeros_like(valid)
    for question in dict.fromkeys(asked):
        mine = [i for i, one in enumerate(asked) if one == question and not valid[i]]
        if mine:
            parts[mine] = mixed(model, planes[mine], tokens[mine], question.answers)
    return Findings(reading, scenes, torch.tensor([scene is not None for scene in scenes]), valid, parts)


def vague(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    """The row of a cell, the same by question, and a line for each picture."""
    asked = questions(evaluation.plan.count)
    name = cell_name("text", part, settings)
    images = evaluation.generate(name, [question.text for question in asked], settings)
    return _result(evaluation, asked, images)


def fillings(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    """Inpainting with several right fillings: the place of one thing is masked, and the prompt leaves it open."""
    asked, scenes = gaps(evaluation.plan.count, evaluation.plan.seed)
    pictures, _, _ = encode_scenes(evaluation.model, scenes)
    masks = torch.zeros(len(scenes), SIDE, SIDE)
    for mask, scene in zip(masks, scenes, strict=True):
        place = PLACES[scene.places[-1]]
        mask[place.top : place.top + place.side, place.left : place.left + place.side] = 1
    masks = F.interpolate(masks[:, None], pictures.shape[1:3])[:, 0]
    name = cell_name("inpainting", part, settings)
    images = evaluation.generate(name, [question.text for question in asked], settings, images=pictures, masks=masks)
    return _result(evaluation, asked, images)


def gaps(count: int, seed: int) -> tuple[list[Question], list[Scene]]:
    """`count` questions that leave the last thing open, with all but that given by a scene, and these scenes."""
    generator = Generator()
    generator.manual_seed(seed)
    asked, scenes = [], []
    for question in islice(cycle(FILLINGS), count):
        scene = question.answers.draw(generator)
        known = tuple((name,) for name in scene.things[:-1])
        answers = Answers((*known, question.answers.things[-1]), (scene.places,), (scene.background,))
        asked.append(Question(question.text, answers, question.kind))
        scenes.append(scene)
    return asked, scenes


def _result(evaluation: Evaluation, asked: Sequence[Question], images: GeneratedImages) -> TaskResult:
    findings = judge_answers(evaluation.model, images.planes, images.tokens, asked)
    kinds: dict[str, dict[str, Any]] = {}
    for text in dict.fromkeys(question.text for question in asked):
        rows = [index for index, question in enumerate(asked) if question.text == text]
        kinds[text or _EMPTY] = {"pictures": len(rows), **measure(findings, asked, images.tokens, rows)}
    content = {
        "full_settings": images.settings,
        "row": {
            **measure(findings, asked, images.tokens),
            "passes": number(images.passes),
            "seconds": number(images.seconds, "s"),
        },
        "kinds": kinds,
        "pictures": [
            {
                "prompt": question.text,
                "seed": evaluation.plan.seed + index,
                "seen": findings.reading.words(index),
                "valid": bool(findings.valid[index]),
                "mixed": bool(findings.mixed[index]),
            }
            for index, question in enumerate(asked)
        ],
    }
    marks = [
        "right" if v else "nearest" if a else "wrong" for v, a in zip(findings.valid, findings.answered, strict=True)
    ]
    return TaskResult(content, images.planes, [question.text or _EMPTY for question in asked], marks)


def measure(
    findings: Findings, asked: Sequence[Question], tokens: Tensor, rows: Sequence[int] | None = None
) -> dict[str, Number]:
    """The numbers of the pictures `rows` (None: all): shares that are valid, mixed and an answer; the distance of what
    the valid ones show from an even choice, and that of a perfect model; the number of distinct pictures."""
    rows = list(range(len(asked))) if rows is None else list(rows)
    drawn = []
    for text in dict.fromkeys(asked[row].text for row in rows):
        mine = [row for row in rows if asked[row].text == text and findings.valid[row]]
        shown = [describe(scene) for scene in (findings.scenes[row] for row in mine) if scene]
        for what, shares in _mean_choices([asked[row] for row in mine]).items():
            drawn.append(([names[what] for names in shown if what in names], shares))
    distance, perfect = coverage(drawn)
    return {
        "valid": rate(findings.valid[rows]),
        "mixed": rate(findings.mixed[rows]),
        "answered": rate(findings.answered[rows]),
        "coverage": distance,
        "coverage, perfect": perfect,
        "distinct pictures": number(distinct(tokens[rows])),
    }


def _mean_choices(asked: Sequence[Question]) -> dict[str, dict[str, float]]:
    """The `choices` of several questions in the same words, averaged."""
    mean: dict[str, dict[str, float]] = {}
    for question in asked:
        for what, shares in question.choices.items():
            names = mean.setdefault(what, {})
            for name, share in shares.items():
                names[name] = names.get(name, 0.0) + share / len(asked)
    return mean
