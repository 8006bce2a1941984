"""Random order: what a rule has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from ..randomness import Draws
from ..schedule import Progress
from .rule import Guess


def random(guess: Guess, progress: Progress, draws: Draws) -> Tensor:
    """Masks any of the masked cells again, each as likely. Costs one sort of N cells."""
    scores = guess.spread(torch.zeros_like(guess.probs[:, 0]), torch.inf)
    return guess.lowest(scores + draws.gumbel(scores))
