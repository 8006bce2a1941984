"""How the cost of a picture grows with the batch, the size and the number of steps."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..checkpoint import Checkpoint
from .contenders import Contenders, Workload
from .laps import Laps
from .measure import FreshPrompts, TimedRuns, equality, measure, summary
from .plan import BenchPlan

BATCHES, SIDES, STEPS = (1, 2, 4, 8), (16, 24, 32, 48, 64), (4, 8, 12, 16, 24)


def report_progress(text: str) -> None:
    """Writes the current step of the bench to stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def grow(plan: BenchPlan, checkpoint: Checkpoint, contenders: Contenders, workload: Workload) -> dict[str, Any]:
    """One line a point: an axis ("batch", "size" in pixels, "steps"), its value, and the cost of both sides there.

    Steps are always run whole, batches and sizes with the plan's measured steps. diffusers runs where a run of this
    pack is cheap (`BenchPlan.reference_below`).
    """
    prompts, points = FreshPrompts(), []
    for axis, value, point, steps in _points(plan, checkpoint, workload):
        report_progress(f"{axis} {value}")
        runs = _measured(plan, contenders, point, prompts)
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


def _points(plan: BenchPlan, checkpoint: Checkpoint, workload: Workload) -> Iterator[tuple[str, int, Workload, int]]:
    """Axis, value, what to run, and the steps that its total is for."""
    for batch in plan.batches or BATCHES:
        yield "batch", batch, replace(workload, batch=batch), plan.steps
    for size in plan.sizes or [side * checkpoint.factor for side in SIDES]:
        yield "size", size, replace(workload, width=size, height=size), plan.steps
    for steps in plan.step_counts or STEPS:
        yield "steps", steps, replace(workload, steps=steps), steps


def _measured(plan: BenchPlan, contenders: Contenders, workload: Workload, prompts: FreshPrompts) -> TimedRuns:
    laps = Laps()
    contenders.pack.draw(prompts.new(workload), laps)
    cheap = sum(cost[0] for costs in laps.costs.values() for cost in costs) <= plan.reference_below
    return measure(contenders if cheap else contenders._replace(diffusers=None), workload, plan.repeats, prompts)
