"""Halton order while the layout is open, then the cells that the model is sure of."""

from __future__ import annotations

from torch import Tensor

from ..randomness import Draws
from ..schedule import Progress
from . import choose
from .halton import halton
from .rule import Guess

# Share of the schedule that runs in Halton order.
SWITCH = 0.5


def hybrid(guess: Guess, progress: Progress, draws: Draws) -> Tensor:
    """`halton` in the steps that begin in the first half of the schedule, `choose` in the others.

    Hayakawa et al. 2025 (2510.04525) trade exploration for exploitation in this order: at first all cells are uncertain
    and those far apart depend least on each other; later the probabilities say more. Costs what the two cost.
    """
    return (halton if progress.share < SWITCH else choose.choose)(guess, progress, draws)


def exponent(progress: Progress) -> float:
    """As in `choose`; 1 in Halton order, which does not look at the probabilities."""
    return 1.0 if progress.share < SWITCH else choose.exponent(progress)
