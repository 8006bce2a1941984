"""LATENTs: empty ones, and pictures through the VAE."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ....amused_core.errors import AmusedError
from ....amused_core.images.composite import composite as blend
from ....amused_core.images.masks import cells_to_mask, mask_to_cells
from ....amused_core.settings import inputs
from .. import guards
from . import pictures

MAX_FEATHER = 256  # pixels
logger = logging.getLogger(__name__)


def empty(model: Any, width: int, height: int, batch_size: int) -> dict[str, Tensor]:
    """A LATENT with every token masked; a side of 0 is the model's own.

    Raises:
        AmusedError: a side is no multiple of the cell, or there are too few or too many.
    """
    info = guards.amused_model(model).info
    own = info.recommended
    # Linked values pass by the widgets' limits.
    sides = (("height", height or own.height), ("width", width or own.width))
    grid = [inputs.side(side, name, info.factor) // info.factor for name, side in sides]
    batch_size = inputs.whole(batch_size, "batch_size", 1, inputs.MAX_BATCH)
    samples = torch.zeros(batch_size, 1, *grid, device=comfy.model_management.intermediate_device())
    return {"samples": samples}


def encode(vae: Any, image: Tensor, sides: str, tile_size: int = 0) -> dict[str, Tensor]:
    """An IMAGE as LATENT; `sides` as in `pictures.fit`, `tile_size` in pixels, 0 for the whole picture at once."""
    vae = guards.amused_vae(vae)
    image = pictures.fit(pictures.rgb(image), vae.downscale_ratio, sides)
    if torch.isnan(image).any():
        raise AmusedError("The IMAGE holds NaN; allowed are numbers from 0 to 1.")
    if tile_size <= 0:
        return {"samples": vae.encode(image)}
    tile = _cells(tile_size, vae.downscale_ratio) * vae.downscale_ratio
    overlap = tile // vae.downscale_ratio // 4 * vae.downscale_ratio
    return {"samples": vae.encode_tiled(image, tile_x=tile, tile_y=tile, overlap=overlap)}


def decode(vae: Any, latent: dict[str, Tensor], tile_size: int = 0) -> Tensor:
    """A LATENT as IMAGE, masked tokens grey; `tile_size` in pixels, 0 for the whole picture at once."""
    vae = guards.amused_vae(vae)
    if tile_size <= 0:
        return vae.decode(latent["samples"])
    tile = _cells(tile_size, vae.downscale_ratio)
    return vae.decode_tiled(latent["samples"], tile_x=tile, tile_y=tile, overlap=tile // 4)


def encode_masked(
    vae: Any, image: Tensor, mask: Tensor, sides: str, grow: int, invert: bool
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """A picture and strokes on it, for inpainting.

    Args:
        vae: of 'Load aMUSEd'.
        image: [B,H,W,3].
        mask: [B,H,W], any size; 1 = draw anew.
        sides: as in `pictures.fit`.
        grow: cells added around.
        invert: draw anew what the strokes leave out.

    Returns:
        LATENT with its noise mask, the MASK of whole cells [B,H,W], and the picture in the size that was encoded.
    """
    vae = guards.amused_vae(vae)
    image = pictures.rgb(image)
    image, mask = pictures.same_count(image=image, mask=pictures.same_size(mask, image))
    factor = vae.downscale_ratio
    fitted = pictures.fit(image, factor, sides)
    # Resized smoothly, a thin stroke would fade away.
    mask = (
        pictures.same_size(mask, fitted) if sides == "resize" else pictures.fit(mask[..., None], factor, sides)[..., 0]
    )
    cells = mask_to_cells(mask, factor, grow=grow, invert=invert)
    if not cells.any():
        logger.warning(
            "aMUSEd: the mask of 'aMUSEd inpaint mask' is empty, so the image is encoded and no token is generated. "
            "'Load Image' gives such a mask for an image without transparency."
        )
    whole = cells_to_mask(cells, factor)
    return {**encode(vae, fitted, "refuse"), "noise_mask": whole[:, None]}, whole, fitted


def composite(original: Tensor, generated: Tensor, mask: Tensor, pixels: int) -> Tensor:
    """`generated` inside `mask`, `original` outside, over `pixels` from one to the other inside the mask.

    Raises:
        AmusedError: the pictures differ in size, or the batches in length.
    """
    pixels = inputs.whole(pixels, "feather", 0, MAX_FEATHER)
    original, generated = pictures.rgb(original), pictures.rgb(generated)
    if original.shape[1:] != generated.shape[1:]:
        sizes = " and ".join(f"{image.shape[2]}x{image.shape[1]}" for image in (original, generated))
        raise AmusedError(
            f"The two images are {sizes}; take the original from the image output of 'aMUSEd inpaint mask'."
        )
    mask = pictures.same_size(mask, original)
    original, generated, mask = pictures.same_count(original=original, generated=generated, mask=mask)
    return blend(original, generated.to(original), mask.to(original), pixels)


def _cells(pixels: int, factor: int) -> int:
    return max(1, pixels // factor)
