"""The run of `amused eval`: cell after cell, the report written anew after each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..model import AmusedModel, load_model
from . import tasks
from .calibration import judge_error
from .cells import Cells, digest, label, write
from .drawing import Drawn, draw
from .judge import read
from .plan import Plan, check, full_settings
from .plot import save_plot
from .prompts import Prompt, prompts
from .reference import check_reference, draw_reference, load_reference
from .report import as_markdown, line
from .sheet import save_sheet
from .text import by_kind, measure, pictures, right
from .verdict import verdict
from .wanted import Wanted, wanted

_SHOWN = 48


def evaluate(plan: Plan) -> Path:
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
    return _Run(plan, model).all()


class _Run:
    """One run: the model, its fingerprint, and the cells that are done."""

    def __init__(self, plan: Plan, model: AmusedModel) -> None:
        self.plan, self.model = plan, model
        self.cells = Cells(plan.output / "cells")
        self.digest = digest(model)
        self.pipeline = load_reference(Path(model.checkpoint.path)) if plan.reference else None
        self.done: list[dict[str, Any]] = []
        self.targets: dict[str, Wanted] = {}

    def all(self) -> Path:
        """Every cell, then the plot."""
        self._cell("judge", "error", {}, lambda: {"rows": judge_error(self.model, self.plan.count, self.plan.seed)})
        for task, part, settings in self._work():
            self._cell(task, part, settings, self._measure(task, part, settings))
        path = self._report()
        note = save_plot(self.plan.output / "accuracy.png", self.done)
        if note:
            print(note, file=sys.stderr)
        return path

    def _work(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(task, part, settings) of all cells; sets outside, so that each one's true pictures are made once."""
        for task in self.plan.tasks:
            parts = {
                "text": self.plan.sets,
                "reconstruction": self.plan.sets,
                "variation": [f"strength {strength:g}" for strength in tasks.STRENGTHS],
            }.get(task, [task])
            for part in parts:
                for settings in [{}] if task == "reconstruction" else self.plan.settings:
                    yield task, part, settings

    def _cell(self, task: str, part: str, settings: dict[str, Any], work: Callable[[], dict[str, Any]]) -> None:
        plan = self.plan
        key = {"task": task, "part": part, "settings": settings, "count": plan.count, "seed": plan.seed}
        key |= {"model": self.digest, "dtype": str(next(self.model.transformer.parameters()).dtype)}
        if task == "text":
            key |= {"reference": plan.batch if plan.reference else None}
        result, stored = self.cells.get(key, work)
        self.done.append(result)
        self._report()
        print(line(result) + (" (measured before)" if stored else ""), flush=True)

    def _measure(self, task: str, part: str, settings: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        plan = self.plan
        if task == "text":
            return lambda: self._text(part, settings)
        if task == "reconstruction":
            return lambda: {"row": tasks.reconstruction(self.model, self._target(part)[1])}
        common = (plan.count, plan.seed, plan.batch, _tell(f"{task} {part}, {label(settings)}"))

        def run() -> dict[str, Any]:
            if task == "variation":
                row, planes, asked = tasks.variation(self.model, settings, float(part.split()[1]), *common)
            else:
                row, planes, asked = getattr(tasks, task)(self.model, settings, *common)
            self._sheet(task, part, settings, planes, [prompt.text for prompt in asked], None)
            return {"row": row}

        return run

    def _text(self, part: str, settings: dict[str, Any]) -> dict[str, Any]:
        plan = self.plan
        asked, target = self._target(part)
        texts, codes = [prompt.text for prompt in asked], self.model.vq.codebook_size
        name = f"text {part}, {label(settings)}"
        seeding = "diffusers" if plan.reference else "per_image"
        given = {"seed": plan.seed, "batch": plan.batch}
        drawn = draw(self.model, texts, settings, seeding=seeding, tell=_tell(name), **given)
        self._sheet("text", part, settings, drawn.planes, texts, _marks(drawn, target))
        result = {
            "full_settings": drawn.settings,
            "row": measure(drawn, target, codes),
            "kinds": by_kind(drawn.planes, target, asked),
            "pictures": pictures(drawn.planes, target, asked, plan.seed),
        }
        if self.pipeline is not None:
            tell = _tell(f"diffusers: {name}")
            theirs = draw_reference(self.pipeline, self.model, texts, drawn.settings, tell=tell, **given)
            equal = (theirs.tokens == drawn.tokens).double().mean()
            result["reference"] = {"row": measure(theirs, target, codes), "equal_tokens": float(equal)}
        return result

    def _target(self, part: str) -> tuple[list[Prompt], Wanted]:
        """The prompts of a set and what they want; kept for one set at a time, since 500 pictures are 300 MB."""
        asked = prompts(part, self.plan.count, self.plan.seed)
        if part not in self.targets:
            self.targets = {part: wanted(self.model, [prompt.scene for prompt in asked])}
        return asked, self.targets[part]

    def _sheet(
        self, task: str, part: str, settings: dict, planes: Tensor, captions: list[str], marks: list[str] | None
    ) -> None:
        rows = torch.linspace(0, len(planes) - 1, min(_SHOWN, len(planes))).round().long().tolist()
        name = f"{task}-{part}-{label(settings)}".replace(", ", "-").replace(" ", "_")
        shown = None if marks is None else [marks[i] for i in rows]
        save_sheet(self.plan.output / "pictures" / f"{name}.png", planes[rows], [captions[i] for i in rows], shown)

    def _report(self) -> Path:
        plan, model = self.plan, self.model
        content = {
            "model": {"name": _name(model, self.plan), "digest": self.digest, "recommended": _plain(model)},
            "pictures": plan.count,
            "seed": plan.seed,
            "batch": plan.batch,
            "torch": torch.__version__,
            "device": str(model.device),
            "threads": torch.get_num_threads(),
            "cells": [{name: cell[name] for name in cell if name != "pictures"} for cell in self.done],
        }
        path = plan.output / "report.json"
        write(path, json.dumps(content, indent=1) + "\n")
        write(path.with_suffix(".md"), as_markdown(content))
        return path


def _marks(drawn: Drawn, target: Wanted) -> list[str]:
    found = verdict(read(drawn.planes), target.scenes)
    strict = right(found, drawn.planes, target)
    return ["right" if s else "nearest" if a else "wrong" for s, a in zip(strict, found.all, strict=True)]


def _plain(model: AmusedModel) -> dict[str, Any]:
    return dict(vars(model.checkpoint.recommended))


def _tell(name: str) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        print(f"\r{name}: {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return tell


def _name(model: AmusedModel, plan: Plan) -> str:
    return " + ".join([model.checkpoint.name, *(f"{Path(file).name}:{strength:g}" for file, strength in plan.loras)])
