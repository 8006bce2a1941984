"""Entropy bound: a step decides as many cells as may be decided independently."""

from __future__ import annotations

import torch
from torch import Tensor

from ..randomness import Draws
from ..schedule import Progress
from .rule import Guess

# In nats, for the cells of an image; the paper's 0.1 is for text. Chosen in docs/evaluation.md.
BOUND = 3.0


def entropy(guess: Guess, progress: Progress, draws: Draws, bound: float = BOUND) -> Tensor:
    """Decides the cells of lowest entropy: as many as the schedule says, and more while their joint error is bounded.

    EB-Sampler (2505.24857): of the masked cells in order of their entropy H, the largest k with
    `sum(H) - max(H) <= bound`. The steps of the run are a budget it never exceeds: where the model is sure, a run ends
    earlier. Costs the entropies of n cells and one sort of N.
    """
    entropies = guess.spread(torch.special.entr(guess.probs).sum(-1), torch.inf)
    ranked = entropies.sort(-1)
    finite = ranked.values.masked_fill(ranked.values.isinf(), 0)
    # In rising order the largest entropy so far is the last one.
    decided = ((finite.cumsum(-1) - finite <= bound) & ~ranked.values.isinf()).sum(-1, keepdim=True)
    masked = guess.masked.sum(-1, keepdim=True)
    keep = torch.minimum(masked - decided, torch.minimum(masked - 1, guess.count)).clamp(min=0)
    places = ranked.indices.argsort(-1)
    return guess.masked & (places >= masked - keep)
