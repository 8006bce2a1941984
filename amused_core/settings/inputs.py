"""Numbers and texts that `generate` accepts, and the one batch size they broadcast to; the rest is refused."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import AmusedError, quoted
from ..sampling.randomness import MAX_SEED

MAX_BATCH = 4096
MAX_SIDE = 16384


def texts(value: str | Sequence[str], name: str) -> list[str]:
    """A prompt or several -> a list of at least one string."""
    items = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else []
    if len(items) > MAX_BATCH:
        raise AmusedError(f"{name} has {len(items)} items; allowed are at most {MAX_BATCH}.")
    if not items or not all(isinstance(item, str) for item in items):
        raise AmusedError(f"{name} is {quoted(value)}; allowed are a string or a list of strings that is not empty.")
    # Broken UTF-8 from a command line arrives as lone surrogates, which no tokenizer takes.
    return [item.encode("utf-8", "replace").decode("utf-8") for item in items]


def seeds(value: int | Sequence[int]) -> list[int]:
    """A seed or several -> a list, each 0 to 2**64 - 1."""
    several = isinstance(value, (list, tuple, range)) or (isinstance(value, np.ndarray) and value.ndim == 1)
    items = list(islice(value, MAX_BATCH + 1)) if several else [value]
    if len(items) > MAX_BATCH:
        raise AmusedError(f"seed has more than {MAX_BATCH} items; allowed are at most as many.")
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


def is_number(value: Any) -> bool:
    """Whether `value` is a Python or NumPy number; True, False and spans of time are not."""
    return is_whole(value) or isinstance(value, (float, np.floating))


def is_whole(value: Any) -> bool:
    """Whether `value` is a whole number of Python or NumPy; True, False and spans of time are not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def number(value: float, name: str, low: float, high: float, above: bool = False) -> float:
    """`value` as a float within `low`..`high`; with `above`, more than `low`."""
    if not is_number(value) or not low <= value <= high or (above and value == low):
        allowed = f"above {low:g} up to {high:g}" if above else f"from {low:g} to {high:g}"
        raise AmusedError(f"{name} is {quoted(value)}; allowed are numbers {allowed}.")
    return float(value)


def whole(value: int, name: str, low: int, high: int) -> int:
    """`value` as an int within `low`..`high`."""
    if not is_whole(value) or not low <= value <= high:
        raise AmusedError(f"{name} is {quoted(value)}; allowed are whole numbers from {low} to {high}.")
    return int(value)


def choice(value: str, name: str, names: Sequence[str]) -> str:
    """`value`, one of `names`."""
    if not isinstance(value, str) or value not in names:
        raise AmusedError(f"{name} is {quoted(value)}; allowed are {', '.join(names)}.")
    return value


def flag(value: bool, name: str) -> bool:
    """`value`, True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise AmusedError(f"{name} is {quoted(value)}; allowed are True and False.")
    return bool(value)


def function(value: Any, name: str) -> Any:
    """`value`, something that can be called, or None."""
    if value is not None and not callable(value):
        raise AmusedError(f"{name} is {quoted(value)}; allowed are a function, or None.")
    return value


def dense(value: Tensor, name: str) -> Tensor:
    """`value`, a tensor of plain numbers that are there."""
    if not isinstance(value, Tensor):
        raise AmusedError(f"{name} is {quoted(value)}; allowed are tensors.")
    odd = value.is_nested or value.layout is not torch.strided or value.is_meta or value.is_quantized
    if odd or value.is_complex():
        raise AmusedError(f"{name} is {quoted(value)} ({value.dtype}); allowed are dense tensors of real numbers.")
    return value


def token_grids(value: Tensor, name: str) -> Tensor:
    """`value`, whole numbers [B,h,w], at least one."""
    value = dense(value, name)
    if value.ndim != 3 or not value.numel() or value.is_floating_point() or value.dtype is torch.bool:
        raise AmusedError(f"{name} is {quoted(value)} ({value.dtype}); allowed are whole numbers [B,h,w], not empty.")
    return value


def side(value: int, name: str, factor: int) -> int:
    """A picture's width or height in pixels: a positive multiple of `factor`."""
    fits = is_whole(value) and factor <= value <= MAX_SIDE
    if not fits or value % factor:
        near = f" (nearest: {nearest(value, factor)})" if fits else ""
        raise AmusedError(
            f"{name} is {quoted(value)}; allowed are multiples of {factor} pixels from {factor} to {MAX_SIDE}{near}."
        )
    return int(value)


def nearest(side: int, factor: int) -> int:
    """The multiple of `factor` nearest to `side`, at least one `factor`."""
    return max(factor, round(side / factor) * factor)


def check_images(images: Tensor, factor: int) -> None:
    """Raises `AmusedError` unless `images` is float [B,H,W,3] in 0..1 with sides that are multiples of `factor`."""
    shape = tuple(dense(images, "image").shape)
    if images.ndim != 4 or shape[-1] != 3:
        raise AmusedError(f"An image batch has the shape {shape}; it must be [B,H,W,3] (RGB).")
    if 0 in shape:
        raise AmusedError(f"An image batch has the shape {shape}: it is empty.")
    if shape[1] % factor or shape[2] % factor:
        near = f"{nearest(shape[2], factor)}x{nearest(shape[1], factor)}"
        raise AmusedError(
            f"The image is {shape[2]}x{shape[1]} pixels; both sides must be multiples of {factor} (nearest: {near})."
        )
    if not images.is_floating_point():
        raise AmusedError(f"The image's dtype is {images.dtype}; it must be floating point, with values from 0 to 1.")
    low, high = images.min().item(), images.max().item()
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise AmusedError(f"The image's values run from {low:g} to {high:g}; they must be numbers from 0 to 1.")


def rows(value: Tensor, count: int) -> Tensor:
    """One row becomes `count` rows; as many rows stay."""
    return value.expand(count, *value.shape[1:])


def _two_that_differ(sizes: dict[str, Any]) -> tuple[tuple[str, int], tuple[str, int]]:
    first = next(iter(sizes.items()))
    return first, next(item for item in sizes.items() if item[1] != first[1])
