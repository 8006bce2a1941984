"""The tasks of `amused eval`."""

from __future__ import annotations

from . import image_tasks
from .calibration import judge_error
from .task import CellSettings, Evaluation, Task, TaskResult
from .text_task import text_to_image


def _judge(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    return TaskResult({"rows": judge_error(evaluation.model, evaluation.plan.count, evaluation.plan.seed)})


JUDGE = Task("judge", lambda plan: ["error"], _judge, sweeps=False)
"""Measured in every evaluation, before all else."""
TASKS = {
    task.name: task
    for task in (
        Task("text", lambda plan: plan.sets, text_to_image, reference=True),
        Task("reconstruction", lambda plan: plan.sets, image_tasks.reconstruction, sweeps=False),
        Task("inpainting", lambda plan: ["inpainting"], image_tasks.inpainting),
        Task("variation", lambda plan: list(image_tasks.STRENGTHS), image_tasks.variation),
        Task("diversity", lambda plan: ["diversity"], image_tasks.diversity),
    )
}
"""Those that can be chosen."""
