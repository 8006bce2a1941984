"""Text to image with vague prompts: valid, mixed or neither, and how evenly the right answers are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..images.psnr import psnr
from ..model import AmusedModel
from ..small_world.scenes.layout import Scene
from ..small_world.scenes.vague import describe
from .accuracy import MARGIN
from .coverage import coverage
from .judge import Reading, read, seen_scene
from .metrics import Number, distinct, number, rate
from .mixture import mixed
from .questions import VAGUE, Question, questions
from .targets import make_targets
from .task import CellSettings, Evaluation, TaskResult, cell_name


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
    """The row of a cell, the same by kind of question, and a line for each picture."""
    plan, model = evaluation.plan, evaluation.model
    asked = questions(plan.count)
    texts = [question.text for question in asked]
    images = evaluation.generate(cell_name("text", VAGUE, settings), texts, settings)
    findings = judge_answers(model, images.planes, images.tokens, asked)
    row = {
        **measure(findings, asked, images.tokens),
        "passes": number(images.passes),
        "seconds": number(images.seconds, "s"),
    }
    kinds: dict[str, dict[str, Any]] = {}
    for question in dict.fromkeys(asked):
        mine = [i for i, one in enumerate(asked) if one == question]
        kinds[question.text or "(empty)"] = {"pictures": len(mine), **measure(findings, asked, images.tokens, mine)}
    words = [text or "(empty)" for text in texts]
    marks = [
        "right" if v else "nearest" if a else "wrong" for v, a in zip(findings.valid, findings.answered, strict=True)
    ]
    content = {
        "full_settings": images.settings,
        "row": row,
        "kinds": kinds,
        "pictures": [
            {
                "prompt": asked[i].text,
                "kind": asked[i].kind,
                "seed": plan.seed + i,
                "seen": findings.reading.words(i),
                "valid": bool(findings.valid[i]),
                "mixed": bool(findings.mixed[i]),
            }
            for i in range(len(asked))
        ],
    }
    return TaskResult(content, images.planes, words, marks)


def measure(
    findings: Findings, asked: Sequence[Question], tokens: Tensor, rows: Sequence[int] | None = None
) -> dict[str, Number]:
    """The numbers of the pictures `rows` (None: all): shares that are valid, mixed and an answer; the distance of what
    the valid ones show from an even choice, and that of a perfect model; the number of distinct pictures."""
    rows = list(range(len(asked))) if rows is None else list(rows)
    drawn = []
    for question in dict.fromkeys(asked[row] for row in rows):
        shown = [describe(findings.scenes[row]) for row in rows if asked[row] == question and findings.valid[row]]
        for what, shares in question.choices.items():
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
