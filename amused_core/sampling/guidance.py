"""Classifier-free guidance in logit space (Ho & Salimans 2022; Chang et al. 2023), and its weight in each step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import AmusedError
from ..networks.text import TextEmbedding
from .loop import Predict, at

Forward = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
CFG_SCHEDULES = ("constant", "ramp", "interval")


def cfg_weights(
    cfg: float, schedule: str, steps: int, start: int = 0, interval: tuple[float, float] = (0.0, 1.0)
) -> list[float]:
    """The guidance weight of each step; 1 is none.

    constant: `cfg`. ramp: from 1 at the first step in equal parts to `cfg` at the last (Muse, Chang et al. 2023,
    sec. 2.7; a run of a single step has no guidance). interval: `cfg` in the steps that begin within `[a, b)` of the
    schedule, 1 in the others (Kynkaanniemi et al. 2024; for masked models You et al. 2025, eMIGM).

    Args:
        cfg: the full weight; 1 and below is no guidance at all.
        schedule: "constant", "ramp" or "interval".
        steps: of the whole schedule.
        start: steps left out at the beginning (picture to picture).
        interval: (a, b), shares of the whole schedule.

    Returns:
        `steps - start` weights.
    """
    check_cfg_schedule(schedule)
    places = range(start, steps)
    if cfg <= 1:
        return [1.0 for _ in places]
    if schedule == "ramp":
        last = max(steps - 1, 1)
        return [1 + (cfg - 1) * (place / last) for place in places]
    if schedule == "interval":
        first, end = interval
        return [cfg if first <= place / steps < end else 1.0 for place in places]
    return [cfg for _ in places]


def check_cfg_schedule(name: str) -> None:
    """Raises `AmusedError` unless `name` is a known schedule of the guidance."""
    if name not in CFG_SCHEDULES:
        raise AmusedError(f"cfg_schedule is {name!r}; allowed are {', '.join(CFG_SCHEDULES)}.")


def guide(uncond: Tensor, cond: Tensor, cfg: float) -> Tensor:
    """`uncond + cfg * (cond - uncond)`, shapes alike."""
    return uncond + cfg * (cond - uncond)


def plain_predictor(
    forward: Forward, cond: TextEmbedding, uncond: TextEmbedding | None, micro: Tensor, cfg: float
) -> Predict:
    """A callable that gives the guided logits of the masked cells, from any U-ViT; see `prompted` for our own.

    Args:
        forward: `(tokens, hidden, pooled, micro) -> logits [B,K,h,w]`.
        cond, uncond: embeddings of B rows; `uncond` None is no guidance.
        micro: [1,5] or [B,5].
        cfg: guidance of every step.
    """
    batch = len(cond.hidden)
    micro = micro.expand(batch, -1)
    if uncond is None:
        return lambda tokens, index, cells: at(forward(tokens, *cond, micro), cells)
    hidden, pooled = (torch.cat(pair) for pair in zip(uncond, cond, strict=True))
    twice = torch.cat([micro, micro])

    def guided(tokens: Tensor, index: int, cells: Tensor) -> Tensor:
        logits = forward(torch.cat([tokens, tokens]), hidden, pooled, twice)
        return guide(*(at(half, cells).float() for half in logits.chunk(2)), cfg)

    return guided
