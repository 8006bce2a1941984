"""Numbers and texts that `generate` accepts, and the one batch size they broadcast to; the rest is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from .errors import AmusedError
from .networks.vq import nearest
from .sampling.randomness import MAX_SEED
from .sampling.schedule import MAX_STEPS

MAX_CFG = 100.0
MAX_TEMPERATURE = 100.0
SAMPLING_TEMPERATURES = (0.01, 10.0)
MAX_BATCH = 4096
MAX_SIDE = 16384
INTEGERS = (int, np.integer)
NUMBERS = (int, float, np.integer, np.floating)


def texts(value: str | Sequence[str], name: str) -> list[str]:
    """A prompt or several -> a list of at least one string."""
    items = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else []
    if not items or not all(isinstance(item, str) for item in items):
        raise AmusedError(f"{name} is {value!r}; allowed are a string or a list of strings that is not empty.")
    # Broken UTF-8 from a command line arrives as lone surrogates, which no tokenizer takes.
    return [item.encode("utf-8", "replace").decode("utf-8") for item in items]


def seeds(value: int | Sequence[int]) -> list[int]:
    """A seed or several -> a list, each 0 to 2**64 - 1."""
    several = isinstance(value, (list, tuple, range)) or (isinstance(value, np.ndarray) and value.ndim == 1)
    items = list(value) if several else [value]
    if not items:
        raise AmusedError("seed is an empty list; allowed are a whole number or a list of them.")
    return [whole(item, "seed", 0, MAX_SEED) for item in items]


def batch_size(counts: dict[str, int], wanted: int) -> int:
    """The one batch size that all inputs (name -> count) broadcast to, `wanted` being the least."""
    wanted = whole(wanted, "batch_size", 1, MAX_BATCH)
    sizes = {name: count for name, count in {**counts, "batch_size": wanted}.items() if count != 1}
    if len(set(sizes.values())) > 1:
        (first, one), (second, other) = _two_that_differ(sizes)
        raise AmusedError(f"{first} ({one}) and {second} ({other}) do not fit; they must be equal, or one be 1.")
    return next(iter(sizes.values()), 1)


def number(value: float, name: str, low: float, high: float) -> float:
    """`value` as a float within `low`..`high`."""
    if isinstance(value, bool) or not isinstance(value, NUMBERS) or not low <= value <= high:
        raise AmusedError(f"{name} is {value!r}; allowed are numbers from {low:g} to {high:g}.")
    return float(value)


def whole(value: int, name: str, low: int, high: int) -> int:
    """`value` as an int within `low`..`high`."""
    if isinstance(value, bool) or not isinstance(value, INTEGERS) or not low <= value <= high:
        raise AmusedError(f"{name} is {value!r}; allowed are whole numbers from {low} to {high}.")
    return int(value)


def steps(value: int) -> int:
    """A whole number of steps, 1 to 1000."""
    return whole(value, "steps", 1, MAX_STEPS)


def flag(value: bool, name: str) -> bool:
    """`value`, True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise AmusedError(f"{name} is {value!r}; allowed are True and False.")
    return bool(value)


def temperature(value: float | Sequence[float]) -> tuple[float, float]:
    """A pair (first step, last step); a single number falls to 0.01, as in diffusers."""
    pair = tuple(value) if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) == 1 else (value, 0.01)
    if len(pair) != 2:
        raise AmusedError(f"temperature is {value!r}; allowed are one number or a pair of them.")
    return (number(pair[0], "temperature", 0, MAX_TEMPERATURE), number(pair[1], "temperature", 0, MAX_TEMPERATURE))


def cfg_interval(value: Sequence[float]) -> tuple[float, float]:
    """Two shares of the schedule, the first below the second."""
    pair = tuple(value) if isinstance(value, (list, tuple)) else ()
    numbers = len(pair) == 2 and all(isinstance(share, NUMBERS) and not isinstance(share, bool) for share in pair)
    if not numbers or not 0 <= pair[0] < pair[1] <= 1:
        raise AmusedError(f"cfg_interval is {value!r}; allowed are two numbers with 0 <= first < second <= 1.")
    return float(pair[0]), float(pair[1])


def sampling_temperature(value: float) -> float:
    """What logits are divided by, 0.01 to 10."""
    return number(value, "sampling_temperature", *SAMPLING_TEMPERATURES)


def top_k(value: int, codes: int) -> int:
    """A number of codes, 0 to `codes`."""
    return whole(value, "top_k", 0, codes)


def top_p(value: float) -> float:
    """A probability above 0, up to 1."""
    if isinstance(value, bool) or not isinstance(value, NUMBERS) or not 0 < value <= 1:
        raise AmusedError(f"top_p is {value!r}; allowed are numbers above 0 up to 1.")
    return float(value)


def side(value: int, name: str, factor: int) -> int:
    """A picture's width or height in pixels: a positive multiple of `factor`."""
    fits = isinstance(value, INTEGERS) and not isinstance(value, bool) and factor <= value <= MAX_SIDE
    if not fits or value % factor:
        near = f" (nearest: {nearest(value, factor)})" if fits else ""
        raise AmusedError(
            f"{name} is {value!r}; allowed are multiples of {factor} pixels from {factor} to {MAX_SIDE}{near}."
        )
    return int(value)


def rows(value: Tensor, count: int) -> Tensor:
    """One row becomes `count` rows; as many rows stay."""
    return value.expand(count, *value.shape[1:])


def _two_that_differ(sizes: dict[str, Any]) -> tuple[tuple[str, int], tuple[str, int]]:
    first = next(iter(sizes.items()))
    return first, next(item for item in sizes.items() if item[1] != first[1])
