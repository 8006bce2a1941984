"""How the cost of a picture grows with the batch, the size and the number of steps."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..checkpoint import Checkpoint
from .laps import Laps
from .measure import Prompts, Runs, equality, measure, summary
from .plan import Plan
from .sides import Diffusers, Job, Pack

BATCHES, SIDES, STEPS = (1, 2, 4, 8), (16, 24, 32, 48, 64), (4, 8, 12, 16, 24)


def tell(text: str) -> None:
    """What is being done, on stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def grow(plan: Plan, checkpoint: Checkpoint, pack: Pack, diffusers: Diffusers | None, job: Job) -> dict[str, Any]:
    """One line a point: an axis ("batch", "size" in pixels, "steps"), its value, and what both sides took there.

    Steps are always run whole, batches and sizes with the plan's measured steps. diffusers runs where a run of this
    pack is cheap (`Plan.reference_below`).
    """
    prompts, points = Prompts(), []
    for axis, value, point, steps in _points(plan, checkpoint, job):
        tell(f"{axis} {value}")
        runs = _measured(plan, pack, diffusers, point, prompts)
        points.append(
            {
                "axis": axis,
                "value": value,
                "steps": steps,
                "batch": point.batch,
                "width": point.width,
                "height": point.height,
                "sides": summary(runs.sides, steps, point.steps),
                "flop": runs.flop,
                "equal": equality(runs.sides) if plan.seeding == "diffusers" else None,
            }
        )
    return {"points": points, "promised": plan.promised}


def _points(plan: Plan, checkpoint: Checkpoint, job: Job) -> Iterator[tuple[str, int, Job, int]]:
    """Axis, value, what to run, and the steps that its total is for."""
    for batch in plan.batches or BATCHES:
        yield "batch", batch, replace(job, batch=batch), plan.steps
    for size in plan.sizes or [side * checkpoint.factor for side in SIDES]:
        yield "size", size, replace(job, width=size, height=size), plan.steps
    for steps in plan.step_counts or STEPS:
        yield "steps", steps, replace(job, steps=steps), steps


def _measured(plan: Plan, pack: Pack, diffusers: Diffusers | None, job: Job, prompts: Prompts) -> Runs:
    laps = Laps()
    pack.draw(prompts.new(job), laps)
    cheap = sum(spent[0] for taken in laps.taken.values() for spent in taken) <= plan.reference_below
    return measure(pack, diffusers if cheap else None, job, plan.repeats, prompts)
