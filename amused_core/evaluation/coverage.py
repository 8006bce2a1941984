"""How evenly a model draws its right answers, and how evenly a perfect one would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from .metrics import Number

_RESAMPLES = 2000
_SEED = 11

Shares = Mapping[str, float]
"""Name of an answer -> its probability."""


def total_variation(counts: Tensor, shares: Tensor) -> Tensor:
    """Half the sum of the absolute differences of two distributions, 0 (equal) to 1 (nothing in common).

    Args:
        counts: [...,K], how often each answer was drawn, not all zero.
        shares: [K] or [...,K], the right probabilities.
    """
    return 0.5 * (counts / counts.sum(-1, keepdim=True) - shares).abs().sum(-1)


def sampling_error(shares: Tensor, count: int, generator: Generator) -> Tensor:
    """Total variation distances [2000] that `count` independent draws from `shares` [K] themselves have."""
    draws = torch.multinomial(shares.expand(_RESAMPLES, -1), count, replacement=True, generator=generator)
    return total_variation(torch.nn.functional.one_hot(draws, len(shares)).sum(1).double(), shares)


def coverage(drawn: Sequence[tuple[Sequence[str], Shares]]) -> tuple[Number, Number]:
    """The mean distance over several choices, and that of a perfect model of the same counts with its 95 % interval.

    Args:
        drawn: for each choice the answers that were drawn and the probabilities of all; one without answers is left
            out. An answer that has no probability counts as wrong.
    """
    generator = Generator()
    generator.manual_seed(_SEED)
    distances, perfect = [], []
    for names, shares in drawn:
        if not names:
            continue
        every = list(dict.fromkeys([*shares, *names]))
        right = torch.tensor([shares.get(name, 0.0) for name in every], dtype=torch.float64)
        counts = torch.tensor([list(names).count(name) for name in every], dtype=torch.float64)
        distances.append(float(total_variation(counts, right)))
        perfect.append(sampling_error(right, len(names), generator))
    if not distances:
        nothing: Number = {"value": 1.0, "unit": ""}
        return nothing, nothing
    means = torch.stack(perfect).mean(0)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return (
        {"value": sum(distances) / len(distances), "unit": ""},
        {"value": float(means.mean()), "low": low, "high": high, "unit": ""},
    )
