"""Whatever holds a picture or a mask -> tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import AmusedError
from ..settings.inputs import check_images, dense
from .masks import mask_to_cells
from .modes import grey, rgb


def images(value: Any, factor: int) -> Tensor:
    """PIL pictures, arrays or tensors -> float32 [B,H,W,3] in 0..1, sides checked against `factor`.

    Transparency is laid on white.

    Raises:
        AmusedError: anything else, or values that are not from 0 to 1.
    """
    batch = _stack(value, "image", channels=3)
    check_images(batch, factor)
    return batch


def masks(value: Any, size: tuple[int, int], factor: int) -> Tensor:
    """PIL masks, arrays or tensors of `size` (H, W) -> bool cells [B, H/factor, W/factor].

    Raises:
        AmusedError: anything else, another size, or values that are not from 0 to 1.
    """
    batch = _stack(value, "mask", channels=1)
    if batch.ndim != 3 or 0 in batch.shape:
        raise AmusedError(f"The mask has the shape {tuple(batch.shape)}; it must be [B,H,W] or [H,W] and not empty.")
    if tuple(batch.shape[1:]) != size:
        raise AmusedError(
            f"The mask is {batch.shape[2]}x{batch.shape[1]} pixels but the image is {size[1]}x{size[0]}; "
            "both must have the same size."
        )
    if not batch.is_floating_point():
        raise AmusedError(f"The mask's dtype is {batch.dtype}; it must be bool, uint8, or floating point.")
    return mask_to_cells(batch, factor)


def _stack(value: Any, name: str, channels: int) -> Tensor:
    """One picture or several, of any accepted kind -> a batch tensor."""
    if isinstance(value, (list, tuple)):
        if not value:
            raise AmusedError(f"{name} is an empty list; allowed are one or more images.")
        parts = [_stack(item, name, channels) for item in value]
        if flat := [tuple(part.shape) for part in parts if part.ndim < 3]:
            raise AmusedError(f"{name} holds an array of the shape {flat[0]}; allowed are images.")
        if len({part.shape[1:] for part in parts}) > 1:
            raise AmusedError(f"The images of {name} differ in size ({_sizes(parts)}); one batch has one size.")
        return torch.cat(parts)
    if isinstance(value, np.ndarray):
        value = from_numpy(value, name)
    if isinstance(value, Tensor):
        return _batch(dense(value, name), channels)
    if hasattr(value, "convert"):  # a PIL picture, without importing PIL
        picture = rgb(value) if channels == 3 else grey(value)
        return torch.from_numpy(np.array(picture))[None].float() / 255
    raise AmusedError(f"{name} is a {type(value).__name__}; allowed are PIL images, arrays and tensors.")


def from_numpy(array: np.ndarray, name: str) -> Tensor:
    """An array of numbers as a tensor, a copy: views may be reversed or read-only, which torch does not take."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise AmusedError(
            f"{name} has the dtype {array.dtype}; allowed are bool, uint8, and floating point from 0 to 1."
        )
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _batch(array: Tensor, channels: int) -> Tensor:
    """Bytes and truth values become numbers from 0 to 1; a single picture becomes a batch of one."""
    if array.dtype == torch.bool:
        array = array.float()
    if array.dtype == torch.uint8:
        # A mask of 0 and 1 is one already.
        array = array.float() / (1 if channels == 1 and array.numel() and array.max() <= 1 else 255)
    array = array[None] if array.ndim == (3 if channels == 3 else 2) else array
    return array.float() if array.is_floating_point() else array


def _sizes(parts: list[Tensor]) -> str:
    sizes = {f"{part.shape[2]}x{part.shape[1]}" if part.ndim > 2 else str(tuple(part.shape)) for part in parts}
    return ", ".join(sorted(sizes))
