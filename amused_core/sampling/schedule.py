"""How many tokens stay masked after each step, and how much noise goes into the choice."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import AmusedError

SCHEDULES = ("cosine", "linear")
MAX_STEPS = 1000


def mask_ratios(steps: int, schedule: str = "cosine", start: int = 0) -> Tensor:
    """The mask ratio before each step and after the last: falling from 1 (everything masked) to 0.

    cosine: `cos(pi/2 * i/steps)` (MaskGIT, Chang et al. 2022, eq. 3); linear: `1 - i/steps`. fp32 throughout, as in
    diffusers' `AmusedScheduler`, so that the floor of a ratio times the grid size falls on the same side.

    Args:
        steps: steps of the whole schedule, 1 to 1000.
        schedule: "cosine" or "linear".
        start: steps left out at the beginning (picture to picture), 0 to `steps - 1`.

    Returns:
        float32 [steps - start + 1].
    """
    check_schedule(schedule)
    if not 1 <= steps <= MAX_STEPS:
        raise AmusedError(f"steps is {steps}; allowed are 1 to {MAX_STEPS}.")
    if not 0 <= start < steps:
        raise AmusedError(f"start is {start}; allowed are 0 to {steps - 1} for {steps} steps.")
    done = torch.arange(start, steps + 1) / steps
    ratios = torch.cos(done * math.pi / 2) if schedule == "cosine" else 1 - done
    ratios[-1] = 0.0
    return ratios


def start_step(steps: int, strength: float) -> int:
    """Steps left out for a `strength` in 0..1: `int(steps * strength)` run, as in diffusers, but never none."""
    return steps - max(1, int(steps * strength))


def temperatures(ratios: Tensor, temperature: tuple[float, float]) -> Tensor:
    """The choice temperature of each step, falling linearly over the whole schedule that `ratios` is a part of.

    The place in the schedule is read from the ratios themselves, so that a partial run (picture to picture, split
    sigmas) goes on where the whole one would be. Equals `linspace(*temperature, steps)[start:]`.

    Args:
        ratios: float32 [n+1] as from `mask_ratios`, or any falling ratios.
        temperature: at the first and at the last step of a whole run.

    Returns:
        float32 [n].
    """
    first, last = temperature
    place = places(ratios)
    width = place[1:] - place[:-1]
    total = 1 / width.clamp(min=1e-9)
    steps, index = total.round(), (place[:-1] * total).round()
    whole = steps[0]
    on_grid = bool((steps == whole).all() and ((total - steps).abs() < 1e-3 * steps).all()) and whole <= MAX_STEPS
    if on_grid:
        return torch.linspace(first, last, int(whole))[index.long().clamp(max=int(whole) - 1)]
    # Off any regular schedule: the same line, in the place the ratio itself has.
    fraction = (place[:-1] / (1 - width).clamp(min=1e-9)).clamp(0, 1)
    return (first + (last - first) * fraction).float()


def check_schedule(name: str) -> None:
    """Raises `AmusedError` unless `name` is a known schedule."""
    if name not in SCHEDULES:
        raise AmusedError(f"Schedule {name!r} is unknown; allowed are {', '.join(SCHEDULES)}.")


def places(ratios: Tensor) -> Tensor:
    """Place of each ratio in its schedule, fp64 0..1: equally spaced ratios are linear, all others count as cosine."""
    ratios = ratios.detach().double().cpu()
    gaps = ratios[:-1] - ratios[1:]
    linear = len(gaps) > 1 and bool((gaps - gaps[0]).abs().max() < 1e-5)
    return 1 - ratios if linear else torch.acos(ratios.clamp(0, 1)) * 2 / math.pi
