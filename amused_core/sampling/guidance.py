"""Classifier-free guidance in logit space (Ho & Salimans 2022; Chang et al. 2023), and its weight in each step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..errors import AmusedError, quoted
from .schedule import Schedule

CFG_SCHEDULES = ("constant", "ramp", "interval")


def cfg_weights(cfg: float, name: str, schedule: Schedule, interval: tuple[float, float] = (0.0, 1.0)) -> list[float]:
    """The guidance weight of each step; 1 is none.

    constant: `cfg`. ramp: from 1 at the first step in equal parts to `cfg` at the last step of the whole schedule
    (Muse, Chang et al. 2023, sec. 2.7; a run of a single step has no guidance). interval: `cfg` in the steps that begin
    within `[a, b)` of the schedule, 1 in the others (Kynkaanniemi et al. 2024; for masked models You et al. 2025,
    eMIGM).

    Args:
        cfg: the full weight; 1 and below is no guidance at all.
        name: "constant", "ramp" or "interval".
        schedule: the steps of the run.
        interval: (a, b), shares of the whole schedule.
    """
    check_cfg_schedule(name)
    if cfg <= 1:
        return [1.0] * len(schedule)
    if name == "ramp":
        last = max(schedule.steps - 1, 1)
        return [1 + (cfg - 1) * (index / last) for index in schedule.indices]
    weights = [cfg] * len(schedule)
    return limit_guidance(weights, schedule, interval) if name == "interval" else weights


def limit_guidance(weights: Sequence[float], schedule: Schedule, interval: tuple[float, float]) -> list[float]:
    """`weights` in the steps that begin within `interval`, shares of the whole schedule, and 1 in the others."""
    first, end = interval
    shares = schedule.shares[:-1]
    return [weight if first <= share < end else 1.0 for weight, share in zip(weights, shares, strict=True)]


def check_cfg_schedule(name: str) -> None:
    """Raises `AmusedError` unless `name` is a known schedule of the guidance."""
    if not isinstance(name, str) or name not in CFG_SCHEDULES:
        raise AmusedError(f"cfg_schedule is {quoted(name)}; allowed are {', '.join(CFG_SCHEDULES)}.")


def guide(uncond: Tensor, cond: Tensor, cfg: float) -> Tensor:
    """`uncond + cfg * (cond - uncond)`, shapes alike."""
    return uncond + cfg * (cond - uncond)


def rescale(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """Guided logits with the spread of conditional ones: `guided * (share * std(cond) / std(guided) + 1 - share)`.

    Guidance lets logits grow, so it also draws codes at a lower temperature than the model's; this takes the
    temperature back and keeps the direction. Lin et al. 2024 (2305.08891, sec. 3.4) do so with images; the standard
    deviations here are those over the codes of each cell.

    Args:
        guided, cond: fp32 [n,K].
        share: 0 to 1; 0 changes nothing.
    """
    factor = cond.std(-1, keepdim=True) / guided.std(-1, keepdim=True).clamp(min=1e-8)
    return guided * (share * factor + (1 - share))
