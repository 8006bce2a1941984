"""A task of an evaluation: what it measures, in which parts; and what all tasks share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..model import AmusedModel
from .cells import label
from .generation import GeneratedImages, ProgressCallback, generate_images
from .plan import EvaluationPlan
from .prompts import Prompt, prompts
from .targets import Targets, make_targets

CellSettings = dict[str, Any]
"""Arguments of `AmusedModel.generate`."""


@dataclass(frozen=True)
class Evaluation:
    """What the tasks of one evaluation share.

    Attributes:
        model: what is measured.
        plan: what to measure.
        pipeline: diffusers' pipeline where it runs as well.
    """

    model: AmusedModel
    plan: EvaluationPlan
    pipeline: Any = None
    _targets: dict[str, Targets] = field(default_factory=dict)

    def targets_of(self, prompt_set: str) -> tuple[list[Prompt], Targets]:
        """The prompts of a set and their targets, kept for one set at a time: those of 500 pictures are 300 MB."""
        requests = prompts(prompt_set, self.plan.count, self.plan.seed)
        if prompt_set not in self._targets:
            self._targets.clear()
            self._targets[prompt_set] = make_targets(self.model, [prompt.scene for prompt in requests])
        return requests, self._targets[prompt_set]

    def generate(self, name: str, texts: Sequence[str], settings: CellSettings, **options: Any) -> GeneratedImages:
        """`generate_images` with the plan's seed and batch, its progress shown under `name`; more `options` are its."""
        plan = self.plan
        more = {"seed": plan.seed, "batch": plan.batch, "on_progress": show_progress(name), **options}
        return generate_images(self.model, texts, settings, **more)


@dataclass(frozen=True)
class TaskResult:
    """What a task measured.

    Attributes:
        content: the cell's entries in the report, such as "row": names -> `metrics.Number`.
        planes: float32 [B,3,128,128], the pictures to show; None: there are none.
        captions: one for each picture.
        marks: names of `sheet.MARKS`, one for each picture, or None.
    """

    content: dict[str, Any]
    planes: Tensor | None = None
    captions: Sequence[str] = ()
    marks: Sequence[str] | None = None


@dataclass(frozen=True)
class Task:
    """One kind of measurement.

    Attributes:
        name: as on the command line and in the report.
        parts: names of its parts, each of them measured with each choice of settings.
        run: measures a part with some settings.
        sweeps: whether settings matter; otherwise each part is measured once.
        reference: whether diffusers' pipeline runs as well where the plan says so.
    """

    name: str
    parts: Callable[[EvaluationPlan], Sequence[str]]
    run: Callable[[Evaluation, str, CellSettings], TaskResult]
    sweeps: bool = True
    reference: bool = False


def cell_name(task: str, part: str, settings: CellSettings) -> str:
    """A cell in words, as "text seen, steps 12"."""
    return f"{task} {part}, {label(settings)}"


def show_progress(name: str) -> ProgressCallback:
    """Shows the number of finished pictures on stderr."""

    def show(done: int, total: int) -> None:
        print(f"\r{name}: {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show
