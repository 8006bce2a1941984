"""MaskGIT's rule: the least confident cells are masked again."""

from __future__ import annotations

import torch
from torch import Tensor

from ..randomness import Draws
from ..schedule import Progress
from .rule import Guess


def confidence(guess: Guess, progress: Progress, draws: Draws) -> Tensor:
    """Masks the cells of lowest `log p + temperature * Gumbel noise`; p is that of the drawn code.

    Chang et al. 2022, sec. 3.2; diffusers' `AmusedScheduler`, whose tokens it gives. Costs one sort of N cells.
    """
    chosen = guess.probs.gather(-1, guess.codes[:, None])[:, 0]
    log_probs = guess.spread(chosen, torch.inf).clamp(1e-20).log()
    return guess.lowest(log_probs + progress.temperature * draws.gumbel(log_probs))
