"""Sizes of pictures: sides are multiples of a token's cell."""

from __future__ import annotations

from torch import Tensor

from ..errors import AmusedError


def check_images(images: Tensor, factor: int) -> None:
    """Raises `AmusedError` unless `images` is float [B,H,W,3] in 0..1 with sides that are multiples of `factor`."""
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[-1] != 3:
        raise AmusedError(f"A picture batch has the shape {shape}; it must be [B,H,W,3] (RGB).")
    if 0 in shape:
        raise AmusedError(f"A picture batch has the shape {shape}: it is empty.")
    if shape[1] % factor or shape[2] % factor:
        near = f"{nearest(shape[2], factor)}x{nearest(shape[1], factor)}"
        raise AmusedError(
            f"The picture is {shape[2]}x{shape[1]} pixels; both sides must be multiples of {factor} (nearest: {near})."
        )
    if not images.is_floating_point():
        raise AmusedError(f"The picture's dtype is {images.dtype}; it must be floating point, with values from 0 to 1.")
    low, high = images.min().item(), images.max().item()
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise AmusedError(f"The picture's values run from {low:g} to {high:g}; they must be numbers from 0 to 1.")


def nearest(side: int, factor: int) -> int:
    """The multiple of `factor` nearest to `side`, at least one `factor`."""
    return max(factor, round(side / factor) * factor)
