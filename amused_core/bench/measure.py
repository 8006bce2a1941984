"""The runs themselves: A B A B in one process, and their summary."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from .contenders import Contenders, Diffusers, Output, Pack, Workload
from .laps import PARTS, Cost, Laps, compose, parts
from .memory import Peak

AGAIN = "pack, another seed"
_TAKES = "a red apple on a blue background, take {}", "blurred and noisy, take {}"


@dataclass(frozen=True)
class TimedRun:
    """One run of one side: its output, its parts, and the resident memory before and at most (None: not known)."""

    output: Output
    parts: dict[str, Cost]
    before: int | None
    peak: int | None


@dataclass(frozen=True)
class TimedRuns:
    """All runs: side -> one for each repeat.

    Attributes:
        sides: the runs that count.
        flop: floating-point operations of diffusers' parts; None: it was not run.
        first: this pack's first run, of one step, in which it fills its caches; None: it was not run.
    """

    sides: dict[str, list[TimedRun]]
    flop: dict[str, int] | None
    first: TimedRun | None


class FreshPrompts:
    """A prompt and a negative prompt that no run had before, so that no cache of another run helps."""

    def __init__(self) -> None:
        self._count = 0

    def new(self, workload: Workload) -> Workload:
        """`workload` with new ones."""
        self._count += 1
        prompt, negative = (text.format(self._count) for text in _TAKES)
        return replace(workload, prompt=prompt, negative=negative)


def measure(contenders: Contenders, workload: Workload, repeats: int, prompts: FreshPrompts) -> TimedRuns:
    """Runs both sides in turns, after one step of each that is not timed; either side may be left out.

    This pack draws every picture twice, with another seed the second time: then it may use its caches of the prompt.
    diffusers draws with the first seed and the second one in turns, so that both of our runs can be compared.
    """
    pack, diffusers = contenders
    warm = prompts.new(replace(workload, steps=1))
    flop = None if diffusers is None else count(diffusers, warm)
    opening = None if pack is None else _run(pack, warm)
    sides: dict[str, list[TimedRun]] = {}
    for repeat in range(repeats):
        first = prompts.new(replace(workload, seed=workload.seed + 2 * repeat))
        second = replace(first, seed=first.seed + 1)
        if diffusers is not None:
            sides.setdefault("diffusers", []).append(_run(diffusers, second if repeat % 2 else first))
        if pack is not None:
            sides.setdefault("pack", []).append(_run(pack, first))
            sides.setdefault(AGAIN, []).append(_run(pack, second))
    return TimedRuns(sides, flop, opening)


def count(diffusers: Diffusers, workload: Workload) -> dict[str, int]:
    """Floating-point operations of the parts that multiply matrices, for one run of `workload`."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        laps = Laps(lambda: (counter.get_total_flops(),))
        diffusers.draw(workload, laps)
    return {part: int(sum(cost[0] for cost in laps.costs.get(part, []))) for part in ("text", "step", "decode")}


def summary(
    runs: Mapping[str, Sequence[TimedRun]], steps: int, measured: int, ours: int | None = None
) -> dict[str, dict[str, Any]]:
    """Medians over the repeats, totals of `steps` steps, and ratios of diffusers' totals to ours.

    Where fewer steps were run, the total is composed of the medians of the parts. Seconds are [CPU, wall]. `ours` are
    the steps of this pack where it took others.
    """
    summaries: dict[str, dict[str, Any]] = {}
    for name, side in runs.items():
        # A run of one step says nothing of later ones; those cost what an uncached first one does.
        fresh = runs["pack"] if name == AGAIN else side
        each = [{"step": other.parts["first step"], **run.parts} for run, other in zip(side, fresh, strict=True)]
        count = steps if ours is None or name == "diffusers" else ours
        totals = [compose(costs, count) for costs in each]
        middle = {part: _median([costs[part] for costs in each]) for part in PARTS}
        summaries[name] = {
            "parts": {part: list(cost) for part, cost in middle.items()},
            "total": list(compose(middle, count) if measured < steps else _median(totals)),
            "composed": measured < steps,
            "totals": [list(cost) for cost in totals],
            "memory": _memory(side),
        }
    for name, side in summaries.items():
        if "diffusers" in summaries and name != "diffusers":
            side["ratio"] = ratio(summaries["diffusers"], side)
    return summaries


def first_run(run: TimedRun | None) -> dict[str, Any] | None:
    """CPU seconds of this pack's first run, of one step, and the resident bytes that it added."""
    if run is None:
        return None
    one = {"step": run.parts["first step"], **run.parts}
    return {"cpu": compose(one, 1)[0], "memory": _memory([run])}


def ratio(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, float]:
    """How many times more diffusers takes: of the totals, and the least and the most of all repeats, by CPU seconds."""
    pairs = [a[0] / b[0] for a, b in zip(theirs["totals"], ours["totals"], strict=True)]
    cpu, wall = (a / b for a, b in zip(theirs["total"], ours["total"], strict=True))
    return {"cpu": cpu, "wall": wall, "low": min(pairs), "high": max(pairs)}


def equality(runs: Mapping[str, Sequence[TimedRun]]) -> dict[str, Any] | None:
    """How equal tokens and pictures are where both sides drew the same seed; None where one side is missing.

    "tokens" is the share of equal ones. "levels" is the largest difference of the pictures in steps of 8 bits and
    "differing" the share of their values that differ; both only of pictures whose tokens are all equal, else None.
    """
    if not {"diffusers", "pack"} <= runs.keys():
        return None
    equal, cells, levels, differing = 0, 0, [], []
    for theirs, ours in _pairs(runs):
        same = theirs.tokens == ours.tokens
        equal, cells = equal + int(same.sum()), cells + same.numel()
        for one, two in zip(theirs.pixels[_whole(same)], ours.pixels[_whole(same)], strict=True):
            apart = ((one.float() * 255).round() - (two.float() * 255).round()).abs()
            levels.append(int(apart.max()))
            differing.append(float((apart > 0).double().mean()))
    return {
        "runs": len(runs["diffusers"]),
        "tokens": equal / cells,
        "pictures": len(levels),
        "levels": max(levels, default=None),
        "differing": sum(differing) / len(differing) if differing else None,
    }


def _pairs(runs: Mapping[str, Sequence[TimedRun]]) -> Iterator[tuple[Output, Output]]:
    for repeat, theirs in enumerate(runs["diffusers"]):
        yield theirs.output, runs[AGAIN if repeat % 2 else "pack"][repeat].output


def _whole(same: Any) -> Any:
    return same.flatten(1).all(-1)


def _run(side: Pack | Diffusers, workload: Workload) -> TimedRun:
    gc.collect()
    with Peak() as memory:
        laps = Laps()
        output = side.draw(workload, laps)
    return TimedRun(output, parts(laps.costs), memory.before, memory.peak)


def _median(values: Sequence[Cost]) -> Cost:
    return tuple(map(median, zip(*values, strict=True)))


def _memory(side: Sequence[TimedRun]) -> dict[str, int] | None:
    """The most over the runs: resident bytes, and how many of them the run itself added."""
    known = [(run.before, run.peak) for run in side if run.before is not None and run.peak is not None]
    if not known:
        return None
    return {"peak": max(peak for _, peak in known), "growth": max(peak - before for before, peak in known)}
