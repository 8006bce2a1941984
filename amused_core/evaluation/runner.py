"""The run of `amused eval`: cell after cell, the report written anew after each."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import AmusedError
from ..files.writing import write_text
from ..model import AmusedModel, load_model
from .cells import CellStore, label, model_digest
from .difference import differences
from .plan import EvaluationPlan, full_settings
from .plot import save_plot, save_vague_plot
from .prompts import SETS
from .questions import VAGUE
from .reference import check_reference, load_reference
from .report import as_markdown, line
from .sheet import save_sheet
from .task import CellSettings, Evaluation, Task, TaskResult
from .tasks import JUDGE, TASKS

_SHOWN = 48


def evaluate(plan: EvaluationPlan) -> Path:
    """Measures what `plan` says and returns the path of the report (JSON; a table, pictures and a plot beside it).

    Raises:
        AmusedError: a set, task, number or setting that is not allowed, before anything is measured.
    """
    check(plan)
    model = load_model(plan.model, **plan.load)
    for file, strength in plan.loras:
        model.load_lora(file, strength)
    for settings in plan.settings:
        full = full_settings(model, settings)
        if plan.reference:
            check_reference(full)
    digest, store, cells = model_digest(model), CellStore(plan.output / "cells"), []
    evaluation = Evaluation(model, plan, load_reference(Path(model.checkpoint.path)) if plan.reference else None)
    for task in (JUDGE, *(TASKS[name] for name in plan.tasks)):
        for part in task.parts(plan):
            for settings in plan.settings if task.sweeps else [{}]:
                cell, stored = _measure(evaluation, task, part, settings, digest, store)
                cells.append(cell)
                path = _write_report(model, plan, digest, cells)
                print(line(cell) + (" (measured before)" if stored else ""), flush=True)
    note = save_plot(plan.output / "accuracy.png", cells) or save_vague_plot(plan.output / "vague.png", cells)
    if note:
        print(note, file=sys.stderr)
    return path


def check(plan: EvaluationPlan) -> None:
    """Raises `AmusedError` for an unknown set or task, and for a count, batch or seed out of range."""
    for option, names, allowed in (("--sets", plan.sets, (*SETS, VAGUE)), ("--tasks", plan.tasks, TASKS)):
        for name in names:
            if name not in allowed:
                raise AmusedError(f"{option} is {name!r}; allowed are {', '.join(allowed)}.")
    for option, value in (("--count", plan.count), ("--batch", plan.batch)):
        if not 1 <= value <= 100_000:
            raise AmusedError(f"{option} is {value}; allowed are whole numbers from 1 to 100000.")
    if not 0 <= plan.seed < 2**32:
        raise AmusedError(f"--seed is {plan.seed}; allowed are whole numbers from 0 to {2**32 - 1}.")


def _measure(
    evaluation: Evaluation, task: Task, part: str, settings: CellSettings, digest: str, store: CellStore
) -> tuple[dict[str, Any], bool]:
    """The cell, and whether it was stored before."""
    plan = evaluation.plan
    key = {"task": task.name, "part": part, "settings": settings, "count": plan.count, "seed": plan.seed}
    key |= {"model": digest, "dtype": str(next(evaluation.model.transformer.parameters()).dtype)}
    if task.reference:
        key |= {"reference": plan.batch if plan.reference else None}

    def measure() -> dict[str, Any]:
        result = task.run(evaluation, part, settings)
        name = f"{task.name}-{part}-{label(settings)}".replace(", ", "-").replace(" ", "_")
        _save_sheet(plan.output / "pictures" / f"{name}.png", result)
        return result.content

    return store.get(key, measure)


def _save_sheet(path: Path, result: TaskResult) -> None:
    """Up to 48 of the pictures, evenly chosen."""
    if result.planes is None:
        return
    count = len(result.planes)
    rows = torch.linspace(0, count - 1, min(_SHOWN, count)).round().long().tolist()
    marks = None if result.marks is None else [result.marks[i] for i in rows]
    save_sheet(path, result.planes[rows], [result.captions[i] for i in rows], marks)


def _write_report(model: AmusedModel, plan: EvaluationPlan, digest: str, cells: Sequence[dict[str, Any]]) -> Path:
    name = " + ".join([model.checkpoint.name, *(f"{Path(file).name}:{strength:g}" for file, strength in plan.loras)])
    content = {
        "model": {"name": name, "digest": digest, "recommended": dict(vars(model.checkpoint.recommended))},
        "pictures": plan.count,
        "seed": plan.seed,
        "batch": plan.batch,
        "torch": torch.__version__,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "differences": differences(cells),
        "cells": [{name: cell[name] for name in cell if name != "pictures"} for cell in cells],
    }
    path = plan.output / "report.json"
    write_text(path, json.dumps(content, indent=1) + "\n")
    write_text(path.with_suffix(".md"), as_markdown(content))
    return path
