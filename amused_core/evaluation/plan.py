"""What an evaluation is to measure, checked before it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import AmusedError
from ..model import AmusedModel
from ..settings import VALUES
from .prompts import SETS

TASKS = ("text", "reconstruction", "inpainting", "variation", "diversity")


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        model: path of a checkpoint; None is the model that ships here.
        output: folder of the report.
        sets, tasks: names from `SETS` and `TASKS`.
        count: pictures a cell.
        settings: arguments of `AmusedModel.generate`, one dict a cell.
        seed: of the prompts, and of the first picture.
        batch: pictures drawn at a time.
        reference: also run diffusers' pipeline.
        load: further arguments of `load_model`.
        loras: (file, strength) of each LoRA to put on the model.
    """

    model: str | None
    output: Path
    sets: list[str]
    tasks: list[str]
    count: int
    settings: list[dict[str, Any]]
    seed: int = 0
    batch: int = 25
    reference: bool = False
    load: dict[str, Any] = field(default_factory=dict)
    loras: tuple[tuple[str, float], ...] = ()


def check(plan: Plan) -> None:
    """Raises `AmusedError` for an unknown set or task, and for a count, batch or seed out of range."""
    for what, names, allowed in (("--sets", plan.sets, tuple(SETS)), ("--tasks", plan.tasks, TASKS)):
        for name in names:
            if name not in allowed:
                raise AmusedError(f"{what} is {name!r}; allowed are {', '.join(allowed)}.")
    for what, value in (("--count", plan.count), ("--batch", plan.batch)):
        if not 1 <= value <= 100_000:
            raise AmusedError(f"{what} is {value}; allowed are whole numbers from 1 to 100000.")
    if not 0 <= plan.seed < 2**32:
        raise AmusedError(f"--seed is {plan.seed}; allowed are whole numbers from 0 to {2**32 - 1}.")


def full_settings(model: AmusedModel, settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` with the model's own for the rest; refuses what `generate` would."""
    inputs = {name: value for name, value in settings.items() if name not in VALUES}
    sampling = {name: value for name, value in settings.items() if name in VALUES}
    return model.request(prompt="", settings=sampling, **inputs).picture_settings(0)
