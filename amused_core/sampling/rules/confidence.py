"""MaskGIT's rule: the least sure cells are masked again."""

from __future__ import annotations

import torch
from torch import Tensor

from ..randomness import Draws
from ..schedule import Progress
from .rule import Guess


def confidence(guess: Guess, progress: Progress, draws: Draws) -> Tensor:
    """Masks the `count` cells of lowest `log p + temperature * Gumbel noise`; p is that of the drawn code.

    Chang et al. 2022, sec. 3.2; diffusers' `AmusedScheduler`, whose tokens it gives. At least one cell stays masked,
    and at least one is decided. Costs one sort of N cells.
    """
    chosen = guess.probs.gather(-1, guess.codes[:, None])[:, 0]
    log_probs = guess.spread(chosen, torch.inf).clamp(1e-20).log()
    noisy = log_probs + progress.temperature * draws.gumbel(log_probs)
    unsure = torch.minimum(guess.masked.sum(-1, keepdim=True) - 1, guess.count)
    unsure = unsure.clamp(1, max(guess.masked.shape[1] - 1, 0)).long()
    return (noisy < noisy.sort(-1).values.gather(1, unsure)) & guess.masked
