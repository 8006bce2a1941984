"""What `generate` accepts, brought to tensors and to one batch size, or refused with a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .draws import MAX_SEED
from .errors import AmusedError
from .masks import mask_to_cells
from .schedule import MAX_STEPS
from .vq import check_images, nearest

MAX_CFG = 100.0
MAX_TEMPERATURE = 100.0


def texts(value: str | Sequence[str] | None, name: str) -> list[str]:
    """A prompt or several -> a list of at least one string."""
    items = [value] if isinstance(value, str) else list(value or [])
    if not items or not all(isinstance(item, str) for item in items):
        raise AmusedError(f"{name} is {value!r}; allowed are a string or a list of strings that is not empty.")
    return items


def seeds(value: int | Sequence[int]) -> list[int]:
    """A seed or several -> a list, each 0 to 2**64 - 1."""
    items = [value] if isinstance(value, (int, np.integer)) else list(value)
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (int, np.integer)) or not 0 <= item <= MAX_SEED:
            raise AmusedError(f"seed is {item!r}; allowed are whole numbers from 0 to 2**64 - 1.")
    if not items:
        raise AmusedError("seed is an empty list; allowed are a whole number or a list of them.")
    return [int(item) for item in items]


def images(value: Any, factor: int) -> Tensor:
    """PIL pictures, arrays or tensors -> float32 [B,H,W,3] in 0..1, sides checked against `factor`."""
    batch = _stack(value, "image", channels=3)
    check_images(batch, factor)
    return batch


def masks(value: Any, size: tuple[int, int], factor: int) -> Tensor:
    """PIL masks, arrays or tensors of `size` (H, W) -> bool cells [B, H/factor, W/factor]."""
    batch = _stack(value, "mask", channels=1)
    if batch.ndim != 3 or 0 in batch.shape:
        raise AmusedError(f"The mask has the shape {tuple(batch.shape)}; it must be [B,H,W] or [H,W] and not empty.")
    if tuple(batch.shape[1:]) != size:
        raise AmusedError(
            f"The mask is {batch.shape[2]}x{batch.shape[1]} pixels but the picture is {size[1]}x{size[0]}; "
            "both must have the same size."
        )
    return mask_to_cells(batch, factor)


def batch_size(counts: dict[str, int], wanted: int) -> int:
    """The one batch size that all inputs (name -> count) broadcast to, `wanted` being the least."""
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise AmusedError(f"batch_size is {wanted!r}; allowed are whole numbers from 1.")
    sizes = {name: count for name, count in {**counts, "batch_size": wanted}.items() if count != 1}
    if len(set(sizes.values())) > 1:
        (first, one), (second, other) = _two_that_differ(sizes)
        raise AmusedError(f"{first} ({one}) and {second} ({other}) do not fit; they must be equal, or one be 1.")
    return next(iter(sizes.values()), 1)


def number(value: float, name: str, low: float, high: float) -> float:
    """`value` as a float within `low`..`high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise AmusedError(f"{name} is {value!r}; allowed are numbers from {low:g} to {high:g}.")
    if not low <= value <= high:
        raise AmusedError(f"{name} is {value!r}; allowed are numbers from {low:g} to {high:g}.")
    return float(value)


def steps(value: int) -> int:
    """A whole number of steps, 1 to 1000."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_STEPS:
        raise AmusedError(f"steps is {value!r}; allowed are whole numbers from 1 to {MAX_STEPS}.")
    return value


def temperature(value: float | Sequence[float]) -> tuple[float, float]:
    """A pair (first step, last step); a single number falls to 0.01, as in diffusers."""
    pair = (value, 0.01) if isinstance(value, (int, float)) else tuple(value)
    if len(pair) != 2:
        raise AmusedError(f"temperature is {value!r}; allowed are one number or a pair of them.")
    return (number(pair[0], "temperature", 0, MAX_TEMPERATURE), number(pair[1], "temperature", 0, MAX_TEMPERATURE))


def side(value: int, name: str, factor: int) -> int:
    """A picture's width or height in pixels: a positive multiple of `factor`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < factor or value % factor:
        near = f" (nearest: {nearest(value, factor)})" if isinstance(value, int) else ""
        raise AmusedError(f"{name} is {value!r}; allowed are positive multiples of {factor} pixels{near}.")
    return value


def rows(value: Tensor, count: int) -> Tensor:
    """One row becomes `count` rows; as many rows stay."""
    return value.expand(count, *value.shape[1:])


def repeat(items: list[str], count: int) -> list[str]:
    """One item becomes `count` items; as many items stay."""
    return items * count if len(items) == 1 else items


def _two_that_differ(sizes: dict[str, int]) -> tuple[tuple[str, int], tuple[str, int]]:
    first = next(iter(sizes.items()))
    return first, next(item for item in sizes.items() if item[1] != first[1])


def _stack(value: Any, name: str, channels: int) -> Tensor:
    """One picture or several, of any accepted kind -> a batch tensor."""
    if isinstance(value, (list, tuple)):
        if not value:
            raise AmusedError(f"{name} is an empty list; allowed are one or more pictures.")
        parts = [_stack(item, name, channels) for item in value]
        if len({part.shape[1:] for part in parts}) > 1:
            raise AmusedError(f"The pictures of {name} differ in size ({_sizes(parts)}); one batch has one size.")
        return torch.cat(parts)
    if isinstance(value, (Tensor, np.ndarray)):
        return _from_array(torch.as_tensor(value), channels)
    if hasattr(value, "convert"):  # a PIL picture, without importing PIL
        pixels = np.array(value.convert("RGB" if channels == 3 else "L"))
        return torch.from_numpy(pixels)[None].float() / 255
    raise AmusedError(f"{name} is a {type(value).__name__}; allowed are PIL pictures, arrays and tensors.")


def _from_array(array: Tensor, channels: int) -> Tensor:
    if array.dtype == torch.uint8:
        # A mask of 0 and 1 is one already.
        array = array.float() / (1 if channels == 1 and array.numel() and array.max() <= 1 else 255)
    if array.dtype == torch.bool:
        array = array.float()
    single = 3 if channels == 3 else 2
    array = array[None] if array.ndim == single else array
    return array.float() if array.is_floating_point() else array


def _sizes(parts: list[Tensor]) -> str:
    return ", ".join(sorted({f"{part.shape[2]}x{part.shape[1]}" for part in parts}))
