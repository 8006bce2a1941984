"""Choose, then sample: the choice of cells does not depend on the codes drawn, whose temperature is explicit."""

from __future__ import annotations

from torch import Tensor

from ..randomness import Draws
from ..schedule import Progress
from .rule import Guess

# Below this temperature the choice is greedy within the precision of fp32.
LEAST = 1e-4


def choose(guess: Guess, progress: Progress, draws: Draws) -> Tensor:
    """Decides cells with weights `sum_x p(x)^b`, without replacement; their codes are drawn from `p(x)^b`.

    The moment sampler of Hayakawa et al. 2025 (2510.04525), `b = 1 + 1 / temperature`. MaskGIT's rule draws x from p,
    then prefers cells with a high `log p(x) + temperature * Gumbel noise`: where few of many cells are decided, that is
    the same as this, so its codes have a temperature of `1 / b` that nobody set. Here it is explicit: `exponent` is
    applied to the probabilities before `sampling_temperature`. Costs K powers for each of n cells, and one sort of N.
    """
    b = _exponent(progress)
    # Times the temperature, so that both terms stay finite where b does not: log max(p) for a temperature of 0.
    moments = guess.spread((guess.probs.log() * b).logsumexp(-1) / (b - 1), 0.0)
    return guess.lowest((moments + draws.gumbel(moments) / (b - 1)).masked_fill(~guess.masked, float("inf")))


def exponent(progress: Progress) -> float:
    """The power b of the probabilities that codes are drawn from; 1 in the last step, which decides every cell."""
    return _exponent(progress) if progress.next_ratio > 0 else 1.0


def _exponent(progress: Progress) -> float:
    return 1 + 1 / max(progress.temperature, LEAST)
