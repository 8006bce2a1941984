"""Mask schedules: how many tokens stay masked after each step, and where a step is in its run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import AmusedError, quoted

MAX_STEPS = 1000


class MaskFunction(NamedTuple):
    """A mask ratio as a function of the share of the schedule that is done, and its inverse; all in 0..1."""

    ratio: Callable[[Tensor], Tensor]
    share: Callable[[Tensor], Tensor]


# cosine: MaskGIT (Chang et al. 2022, eq. 3), diffusers' text to image. linear: diffusers' inpainting.
SCHEDULES = {
    "cosine": MaskFunction(lambda share: torch.cos(share * math.pi / 2), lambda ratio: torch.acos(ratio) * 2 / math.pi),
    "linear": MaskFunction(lambda share: 1 - share, lambda ratio: 1 - ratio),
}


class Progress(NamedTuple):
    """Where a run is: what the predictor, the guidance and the unmasking rule get in each step.

    Attributes:
        index: the step, 0 to `total - 1`.
        total: steps of the run at most; an unmasking rule may end it earlier.
        ratio: mask ratio before the step.
        next_ratio: mask ratio after it; 0 decides every token.
        share: share of the whole schedule done before the step, 0..1.
        temperature: randomness in the choice of the tokens to keep.
    """

    index: int
    total: int
    ratio: float
    next_ratio: float
    share: float
    temperature: float


@dataclass(frozen=True)
class Schedule:
    """The steps of a run: a whole schedule, or the part of one.

    Attributes:
        ratios: float32 [n+1], the falling mask ratio before each step and after the last.
        shares: n+1 shares of the whole schedule done, 0..1.
        steps: steps of the whole schedule where they are equally wide, else None.
    """

    ratios: Tensor
    shares: tuple[float, ...]
    steps: int | None = None

    @classmethod
    def named(cls, name: str, steps: int, start: int = 0) -> Schedule:
        """The schedule "cosine" or "linear"; see `mask_ratios`."""
        ratios = mask_ratios(steps, name, start)
        return cls(ratios, tuple(index / steps for index in range(start, steps + 1)), steps)

    @classmethod
    def from_ratios(cls, ratios: Tensor) -> Schedule:
        """The schedule that the mask ratios float32 [n+1] of a host are a part of.

        The one in which their steps are most nearly equally wide; where they are so in none, their places are those in
        the cosine schedule.
        """
        ratios = ratios.detach().float().cpu()
        if len(ratios) < 2:  # No step at all.
            return cls(ratios, tuple((1 - ratios).tolist()))
        shares = {name: function.share(ratios.double()) for name, function in SCHEDULES.items()}
        errors = {name: _unevenness(places) for name, places in shares.items()}
        name = min(errors, key=lambda name: errors[name])
        if errors[name] == math.inf:
            return cls(ratios, tuple(shares["cosine"].tolist()))
        steps = round(1 / float(shares[name][1] - shares[name][0]))
        return cls(ratios, tuple((shares[name] * steps).round().div(steps).tolist()), steps)

    def __len__(self) -> int:
        return len(self.ratios) - 1

    @property
    def indices(self) -> list[int]:
        """Place of each step in the whole schedule, 0 to `steps - 1`; only where `steps` is known."""
        return [min(round(share * self.steps), self.steps - 1) for share in self.shares[:-1]]

    def temperatures(self, temperature: tuple[float, float]) -> list[float]:
        """A temperature for each step that changes linearly from the first to the last step of the whole schedule.

        Equals `linspace(*temperature, steps)[start:]` in fp32, as in diffusers' pipelines.
        """
        first, last = temperature
        if self.steps is not None:
            return torch.linspace(first, last, self.steps)[self.indices].tolist()
        widths = [end - begin for begin, end in zip(self.shares, self.shares[1:], strict=False)]
        fractions = [share / max(1 - width, 1e-9) for share, width in zip(self.shares, widths, strict=False)]
        return [first + (last - first) * min(max(fraction, 0.0), 1.0) for fraction in fractions]

    def progress(self, temperature: tuple[float, float]) -> list[Progress]:
        """One `Progress` for each step."""
        ratios = self.ratios.tolist()
        return [
            Progress(index, len(self), ratios[index], ratios[index + 1], self.shares[index], heat)
            for index, heat in enumerate(self.temperatures(temperature))
        ]


def mask_ratios(steps: int, name: str = "cosine", start: int = 0, limit: int = MAX_STEPS) -> Tensor:
    """The mask ratio before each step and after the last: falling from 1 (everything masked) to 0.

    fp32 throughout, as in diffusers' `AmusedScheduler`, so that the floor of a ratio times the grid size falls on the
    same side.

    Args:
        steps: steps of the whole schedule, 1 to 1000.
        name: "cosine" or "linear".
        start: steps left out at the beginning (image-to-image), 0 to `steps - 1`.
        limit: the most steps; a host that takes a part of them may want more.

    Returns:
        float32 [steps - start + 1].

    Raises:
        AmusedError: an unknown name, or a number out of range.
    """
    check_schedule(name)
    if not 1 <= steps <= limit:
        raise AmusedError(f"steps is {steps}; allowed are 1 to {limit}.")
    if not 0 <= start < steps:
        raise AmusedError(f"start is {start}; allowed are 0 to {steps - 1} for {steps} steps.")
    ratios = SCHEDULES[name].ratio(torch.arange(start, steps + 1) / steps)
    ratios[-1] = 0.0
    return ratios


def start_step(steps: int, strength: float) -> int:
    """Steps left out for a `strength` in 0..1: `int(steps * strength)` run, as in diffusers, but never none."""
    return steps - max(1, int(steps * strength))


def _unevenness(shares: Tensor) -> float:
    """How far steps are from being equal parts of a schedule, at most 1e-3 of a step; else infinity."""
    parts = 1 / shares.diff().clamp(min=1e-9)
    steps = parts.round()
    error = float(((parts - steps).abs() / steps.clamp(min=1)).max())
    even = bool((steps == steps[0]).all()) and error < 1e-3 and 1 <= steps[0] <= MAX_STEPS
    return error if even else math.inf


def check_schedule(name: str) -> None:
    """Raises `AmusedError` unless `name` is a known schedule."""
    if not isinstance(name, str) or name not in SCHEDULES:
        raise AmusedError(f"Schedule {quoted(name)} is unknown; allowed are {', '.join(SCHEDULES)}.")
