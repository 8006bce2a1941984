"""The tasks of `amused eval`."""

from __future__ import annotations

from . import image_tasks
from .calibration import judge_error
from .mixture_error import mixture_error
from .questions import VAGUE
from .task import CellSettings, Evaluation, Task, TaskResult
from .text_task import text_to_image
from .vague_task import fillings, vague


def _judge(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    measure = mixture_error if part == VAGUE else judge_error
    return TaskResult({"rows": measure(evaluation.model, evaluation.plan.count, evaluation.plan.seed)})


def _text(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    return (vague if part == VAGUE else text_to_image)(evaluation, part, settings)


def _inpainting(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    return (fillings if part == VAGUE else image_tasks.inpainting)(evaluation, part, settings)


JUDGE = Task("judge", lambda plan: ["error", *({VAGUE} & {*plan.sets})], _judge, sweeps=False)
"""Measured in every evaluation, before all else."""
TASKS = {
    task.name: task
    for task in (
        Task("text", lambda plan: plan.sets, _text, reference=True),
        Task(
            "reconstruction",
            lambda plan: [name for name in plan.sets if name != VAGUE],
            image_tasks.reconstruction,
            sweeps=False,
        ),
        Task("inpainting", lambda plan: ["inpainting", *({VAGUE} & {*plan.sets})], _inpainting),
        Task("variation", lambda plan: list(image_tasks.STRENGTHS), image_tasks.variation),
        Task("diversity", lambda plan: ["diversity"], image_tasks.diversity),
    )
}
"""Those that can be chosen."""
