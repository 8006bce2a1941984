"""Numbers and their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

Number = dict[str, Any]
"""A result as it stands in the JSON: value, unit and, where there is an interval, low and high."""

_Z = 1.959964
_RESAMPLES = 1000
_SEED = 7


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a rate of `right` in `count` (Wilson 1927), both ends in 0..1."""
    if count < 1:
        return 0.0, 1.0
    share, square = right / count, _Z**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def number(value: float, unit: str = "") -> Number:
    """A number without an interval; a share (0..1) has the unit "%"."""
    return {"value": float(value), "unit": unit}


def rate(right: Tensor) -> Number:
    """bool [B] -> the share that is true, 0..1, with its interval."""
    low, high = wilson(int(right.sum()), len(right))
    return {"value": float(right.float().mean()) if len(right) else 0.0, "low": low, "high": high, "unit": "%"}


def bootstrap(values: Tensor, unit: str, statistic: str = "median") -> Number:
    """float [B], not empty -> its median or mean with the percentile interval of 1000 seeded resamples (Efron 1979)."""
    generator = Generator()
    generator.manual_seed(_SEED)
    measure: Callable[[Tensor], Tensor] = _median if statistic == "median" else lambda rows: rows.mean(-1)
    values = values.double()
    rows = torch.randint(len(values), (_RESAMPLES, len(values)), generator=generator)
    low, high = measure(values[rows]).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"value": float(measure(values)), "low": low, "high": high, "unit": unit}


def _median(rows: Tensor) -> Tensor:
    return rows.quantile(0.5, dim=-1)


def frechet(first: Tensor, second: Tensor) -> float:
    """Frechet distance of two sets of vectors [B,D], each taken as a Gaussian (Heusel et al. 2017).

    The square root of the covariances' product has the same trace as that of the symmetric `A^(1/2) B A^(1/2)`.
    With few vectors it is biased upwards, so compare sets of equal size only.
    """
    (mean_a, cov_a), (mean_b, cov_b) = (_gauss(vectors.double()) for vectors in (first, second))
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * product
    return max(0.0, float(distance))


def _gauss(vectors: Tensor) -> tuple[Tensor, Tensor]:
    mean = vectors.mean(0)
    centred = vectors - mean
    return mean, centred.T @ centred / max(1, len(vectors) - 1)


def code_entropy(tokens: Tensor, codes: int) -> float:
    """Entropy in bits of how often each of `codes` codes occurs in int64 `tokens` of any shape."""
    share = torch.bincount(tokens.flatten(), minlength=codes).double() / max(1, tokens.numel())
    share = share[share > 0]
    return float(-(share * share.log2()).sum())


def distinct(tokens: Tensor) -> int:
    """How many different grids there are among int64 [N,h,w]."""
    return len(tokens.flatten(1).unique(dim=0))


def mean_pairwise(vectors: Tensor) -> float:
    """Mean Euclidean distance of all pairs of [N,D]; 0 for one vector."""
    return float(torch.pdist(vectors.float()).mean()) if len(vectors) > 1 else 0.0


def different_tokens(tokens: Tensor) -> float:
    """Mean share of cells in which two of int64 [N,h,w] differ, over all pairs; 0 for one grid."""
    flat = tokens.flatten(1)
    if len(flat) < 2:
        return 0.0
    shares = [(flat[i + 1 :] != flat[i]).float().mean(1) for i in range(len(flat) - 1)]
    return float(torch.cat(shares).mean())
