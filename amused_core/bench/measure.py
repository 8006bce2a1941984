"""The runs themselves: A B A B in one process, and what they come to."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from .laps import PARTS, Laps, Spent, compose, parts
from .memory import Peak
from .sides import Diffusers, Drawn, Job, Pack

AGAIN = "pack, another seed"
_TAKES = "a red apple on a blue background, take {}", "blurred and noisy, take {}"


@dataclass(frozen=True)
class Run:
    """One run of one side: what it drew, its parts, and the resident memory before and at most (None: not known)."""

    drawn: Drawn
    parts: dict[str, Spent]
    before: int | None
    peak: int | None


@dataclass(frozen=True)
class Runs:
    """All runs: side -> one for each repeat.

    Attributes:
        sides: the runs that count.
        flop: floating-point operations of diffusers' parts; None: it was not run.
        first: this pack's first run, of one step, in which it sets up what it keeps; None: it was not run.
    """

    sides: dict[str, list[Run]]
    flop: dict[str, int] | None
    first: Run | None


class Prompts:
    """A prompt and a negative prompt that no run had before, so that nothing kept from another run helps."""

    def __init__(self) -> None:
        self._count = 0

    def new(self, job: Job) -> Job:
        """`job` with them."""
        self._count += 1
        prompt, negative = (text.format(self._count) for text in _TAKES)
        return replace(job, prompt=prompt, negative=negative)


def measure(pack: Pack | None, diffusers: Diffusers | None, job: Job, repeats: int, prompts: Prompts) -> Runs:
    """Runs both sides in turns, after one step of each that is not timed; either side may be left out.

    This pack draws every picture twice, with another seed the second time: then it may use what it kept of the prompt.
    diffusers draws with the first seed and the second one in turns, so that both of our runs can be compared.
    """
    warm = prompts.new(replace(job, steps=1))
    flop = None if diffusers is None else count(diffusers, warm)
    opening = None if pack is None else _run(pack, warm)
    sides: dict[str, list[Run]] = {}
    for repeat in range(repeats):
        first = prompts.new(replace(job, seed=job.seed + 2 * repeat))
        second = replace(first, seed=first.seed + 1)
        if diffusers is not None:
            sides.setdefault("diffusers", []).append(_run(diffusers, second if repeat % 2 else first))
        if pack is not None:
            sides.setdefault("pack", []).append(_run(pack, first))
            sides.setdefault(AGAIN, []).append(_run(pack, second))
    return Runs(sides, flop, opening)


def count(diffusers: Diffusers, job: Job) -> dict[str, int]:
    """Floating-point operations of the parts that multiply matrices, for one run of `job`."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        laps = Laps(lambda: (counter.get_total_flops(),))
        diffusers.draw(job, laps)
    return {part: int(sum(spent[0] for spent in laps.taken.get(part, []))) for part in ("text", "step", "decode")}


def summary(
    runs: Mapping[str, Sequence[Run]], steps: int, measured: int, ours: int | None = None
) -> dict[str, dict[str, Any]]:
    """Medians over the repeats, totals of `steps` steps, and ratios of diffusers' totals to ours.

    Where fewer steps were run, the total is composed of the medians of the parts. Seconds are [CPU, wall]. `ours` are
    the steps of this pack where it took others.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, side in runs.items():
        # A run of one step says nothing of later ones; those cost what a first one does that nothing kept helps with.
        fresh = runs["pack"] if name == AGAIN else side
        each = [{"step": other.parts["first step"], **run.parts} for run, other in zip(side, fresh, strict=True)]
        count = steps if ours is None or name == "diffusers" else ours
        totals = [compose(taken, count) for taken in each]
        middle = {part: _median([taken[part] for taken in each]) for part in PARTS}
        found[name] = {
            "parts": {part: list(spent) for part, spent in middle.items()},
            "total": list(compose(middle, count) if measured < steps else _median(totals)),
            "composed": measured < steps,
            "totals": [list(spent) for spent in totals],
            "memory": _memory(side),
        }
    for name, side in found.items():
        if "diffusers" in found and name != "diffusers":
            side["ratio"] = ratio(found["diffusers"], side)
    return found


def first_run(run: Run | None) -> dict[str, Any] | None:
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


def equality(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any] | None:
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


def _pairs(runs: Mapping[str, Sequence[Run]]) -> Iterator[tuple[Drawn, Drawn]]:
    for repeat, theirs in enumerate(runs["diffusers"]):
        yield theirs.drawn, runs[AGAIN if repeat % 2 else "pack"][repeat].drawn


def _whole(same: Any) -> Any:
    return same.flatten(1).all(-1)


def _run(side: Pack | Diffusers, job: Job) -> Run:
    gc.collect()
    with Peak() as memory:
        laps = Laps()
        drawn = side.draw(job, laps)
    return Run(drawn, parts(laps.taken), memory.before, memory.peak)


def _median(values: Sequence[Spent]) -> Spent:
    return tuple(map(median, zip(*values, strict=True)))


def _memory(side: Sequence[Run]) -> dict[str, int] | None:
    """The most over the runs: resident bytes, and how many of them the run itself added."""
    known = [(run.before, run.peak) for run in side if run.before is not None and run.peak is not None]
    if not known:
        return None
    return {"peak": max(peak for _, peak in known), "growth": max(peak - before for before, peak in known)}
