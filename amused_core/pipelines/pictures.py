"""Pictures and masks in the layouts that diffusers' image processor takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import AmusedError
from ..images import pixels
from ..images.modes import grey
from ..settings.inputs import dense


def images(value: Any, factor: int) -> Tensor:
    """PIL pictures, arrays [B,H,W,3] or tensors [B,3,H,W], alone or in lists -> float32 [B,H,W,3] in 0..1.

    Raises:
        AmusedError: anything else, values that are not from 0 to 1, sides that are not multiples of `factor`.
    """
    many = isinstance(value, (list, tuple))
    return pixels.images([_channels_last(item) for item in value] if many else _channels_last(value), factor)


def cells(value: Any, size: tuple[int, int], factor: int) -> Tensor:
    """PIL masks, arrays [B,H,W(,1)] or tensors [B(,1),H,W], alone or in lists -> bool [B, H/factor, W/factor].

    Every cell that a stroke touches counts. As in diffusers, a mask may have another size than the picture
    (`size`: H, W) and is stretched to it.
    """
    many = isinstance(value, (list, tuple))
    planes = [_planes(item) for item in (value if many else [value])]
    if not planes:
        raise AmusedError("mask_image is an empty list; allowed are one or more masks.")
    fitted = [plane if plane.shape[1:] == size else F.adaptive_max_pool2d(plane, size) for plane in planes]
    return pixels.masks(torch.cat(fitted), size, factor)


def _channels_last(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    if dense(value, "image").ndim not in (3, 4) or value.shape[-3] != 3:
        raise AmusedError(f"The image tensor has the shape {tuple(value.shape)}; it must be [B,3,H,W] or [3,H,W].")
    return value.movedim(-3, -1)


def _planes(value: Any) -> Tensor:
    """One item -> float32 [n,H,W] in 0..1."""
    if hasattr(value, "convert"):
        if 0 in value.size:
            raise AmusedError(f"The mask has the size {value.size}; it must have pixels.")
        return torch.from_numpy(np.array(grey(value))).float()[None] / 255
    if not isinstance(value, (Tensor, np.ndarray)):
        raise AmusedError(f"mask_image is a {type(value).__name__}; allowed are PIL images, arrays and tensors.")
    plane = dense(value, "mask_image") if isinstance(value, Tensor) else pixels.from_numpy(value, "mask_image")
    # A channel of one comes second in tensors and last in arrays.
    channel = 1 if isinstance(value, Tensor) and plane.ndim == 4 else -1 if isinstance(value, np.ndarray) else None
    if channel is not None and plane.ndim in (3, 4) and plane.shape[channel] == 1:
        plane = plane.squeeze(channel)
    plane = plane[None] if plane.ndim == 2 else plane
    if plane.ndim != 3 or 0 in plane.shape:
        raise AmusedError(f"The mask has the shape {tuple(value.shape)}; it must be one or more planes [H,W].")
    # Whole numbers are 0 and 1, or 0 to 255.
    scale = 255 if not plane.is_floating_point() and plane.float().max() > 1 else 1
    return plane.float() / scale
