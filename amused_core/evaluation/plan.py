"""What an evaluation is to measure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..model import AmusedModel
from ..settings import VALUES


@dataclass(frozen=True)
class EvaluationPlan:
    """What to measure.

    Attributes:
        model: path of a checkpoint; None is the model that ships here.
        output: folder of the report.
        sets, tasks: names from `prompts.SETS` and `tasks.TASKS`.
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


def full_settings(model: AmusedModel, settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` completed by the model's recommendation; raises what `generate` would."""
    inputs = {name: value for name, value in settings.items() if name not in VALUES}
    sampling = {name: value for name, value in settings.items() if name in VALUES}
    return model.request(prompt="", settings=sampling, **inputs).picture_settings(0)
