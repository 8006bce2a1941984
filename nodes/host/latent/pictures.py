"""Pictures and masks brought to a size that whole cells fill."""

from __future__ import annotations

import logging

import torch.nn.functional as F
from torch import Tensor

from ....amused_core.errors import AmusedError

SIDES = ("crop", "pad", "resize", "refuse")
logger = logging.getLogger(__name__)


def rgb(image: Tensor) -> Tensor:
    """The colour channels of an IMAGE [B,H,W,C].

    Raises:
        AmusedError: not a batch of pictures with at least 3 channels.
    """
    if image.ndim != 4 or 0 in image.shape or image.shape[-1] < 3:
        raise AmusedError(
            f"The IMAGE has the shape {tuple(image.shape)}; it must be [batch, height, width, 3] and not empty."
        )
    return image[..., :3]


def fit(image: Tensor, factor: int, sides: str) -> Tensor:
    """Brings [B,H,W,C] to sides that are multiples of `factor`, and logs what was done.

    Args:
        image: picture or mask.
        factor: pixels per cell side.
        sides: "crop" (equally on both sides), "pad" (repeats the last pixels, right and below), "resize" (smoothly, to
            the nearest size) or "refuse".

    Raises:
        AmusedError: `sides` is unknown, or "refuse" and the size does not fit, or "crop" leaves nothing.
    """
    if sides not in SIDES:
        raise AmusedError(f"sides is {sides!r}; allowed are {', '.join(SIDES)}.")
    height, width = image.shape[1:3]
    if height % factor == 0 and width % factor == 0:
        return image
    if sides == "refuse":
        raise AmusedError(f"The image is {width}x{height} pixels; both sides must be multiples of {factor}.")
    fitted = {"crop": _crop, "pad": _pad, "resize": _resize}[sides](image, factor)
    new = f"{fitted.shape[2]}x{fitted.shape[1]}"
    logger.info("aMUSEd: %s %sx%s to %s, whole cells of %s pixels", sides, width, height, new, factor)
    return fitted


def _crop(image: Tensor, factor: int) -> Tensor:
    height, width = image.shape[1:3]
    if min(height, width) < factor:
        raise AmusedError(
            f"The image is {width}x{height} pixels, less than one cell of {factor}; use 'pad' or 'resize'."
        )
    top, left = height % factor // 2, width % factor // 2
    return image[:, top : top + height // factor * factor, left : left + width // factor * factor]


def _pad(image: Tensor, factor: int) -> Tensor:
    height, width = image.shape[1:3]
    padding = (0, -width % factor, 0, -height % factor)
    return F.pad(image.movedim(-1, 1), padding, mode="replicate").movedim(1, -1)


def _resize(image: Tensor, factor: int) -> Tensor:
    size = [max(1, round(side / factor)) * factor for side in image.shape[1:3]]
    channels = F.interpolate(image.movedim(-1, 1).float(), size=size, mode="bicubic", antialias=True)
    return channels.clamp(0, 1).movedim(1, -1)


def check_mask(mask: Tensor) -> None:
    """Raises `AmusedError` unless a MASK is [...,H,W] and holds pixels."""
    if mask.ndim < 2 or 0 in mask.shape:
        raise AmusedError(
            f"The MASK has the shape {tuple(mask.shape)}; it must be [batch, height, width] and not empty."
        )


def same_size(mask: Tensor, image: Tensor) -> Tensor:
    """A MASK [B,H,W] in the size of an IMAGE: no stroke is lost when it shrinks.

    Raises:
        AmusedError: the mask is empty.
    """
    check_mask(mask)
    mask = mask.reshape(-1, *mask.shape[-2:]).float()
    if mask.shape[1:] == image.shape[1:3]:
        return mask
    return F.adaptive_max_pool2d(mask[:, None], tuple(image.shape[1:3]))[:, 0]


def same_count(**batches: Tensor) -> list[Tensor]:
    """Batches of one length: a single row is repeated.

    Raises:
        AmusedError: two of them have different lengths above 1.
    """
    count = max(len(batch) for batch in batches.values())
    for name, batch in batches.items():
        if len(batch) not in (1, count):
            sizes = ", ".join(f"{name} {len(batch)}" for name, batch in batches.items())
            raise AmusedError(f"The batches differ ({sizes}); {name} must have 1 or {count}.")
    return [batch.expand(count, *batch.shape[1:]) for batch in batches.values()]
