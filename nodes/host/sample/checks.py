"""One clear sentence for every wrong value."""

from __future__ import annotations

import logging
from typing import Any

import comfy.samplers
import torch
import torch.nn.functional as F
from torch import Tensor

from ....amused_core.errors import AmusedError
from ....amused_core.sampling.schedule import MAX_STEPS
from ..latent.pictures import check_mask
from ..model import patches
from ..origin import is_comfyui

# The largest whole number up to which every one has its own half precision value.
EXACT = {torch.float16: 2048, torch.bfloat16: 256}
# Of a LATENT whose model is not known: whole numbers up to here have each a float32 of their own.
MAX_CODES = 2**24
# From where on a pixel of a mask counts; and the mean of four pixels of which one counts in full.
HALF, ONE_OF_FOUR = 0.5, 0.25
# Of the stock nodes 'Empty Latent Image' and 'EmptySD3LatentImage', which stand for 8 pixels a cell. Zeros with other
# channels are of models with other cells, of videos, sounds or solids.
EMPTY_CHANNELS = (4, 16)
logger = logging.getLogger(__name__)


class NoTokens(AmusedError):
    """The model was given something other than tokens; `before_sampling` names the node that did it."""


def check_codes(latent: Tensor, codebook_size: int) -> Tensor:
    """A latent [B,1,h,w] as float32, after checking that it holds codes 0..`codebook_size`.

    Raises:
        AmusedError: another model's latent, blended codes, codes of another codebook, or a dtype too small for them.
    """
    if latent.is_nested or latent.ndim != 4 or 0 in latent.shape:
        shape = tuple(latent.shape)
        raise AmusedError(
            f"This LATENT has the shape {shape} and belongs to another kind of model; an aMUSEd latent is "
            "[batch, 1, height, width]. Make it with 'aMUSEd empty latent', or encode an image with the VAE of 'Load "
            "aMUSEd'."
        )
    if latent.shape[1] != 1:
        raise AmusedError(
            f"This LATENT has {latent.shape[1]} channels and belongs to another model; an aMUSEd latent has 1. "
            "Make it with 'aMUSEd empty latent', or encode the image with the VAE of 'Load aMUSEd'."
        )
    if codebook_size > EXACT.get(latent.dtype, codebook_size):
        raise AmusedError(
            f"This LATENT is {latent.dtype}, which cannot hold {codebook_size} token ids; it must be float32."
        )
    if not bool((latent == latent.round()).all()):
        odd = latent[latent != latent.round()][0].item()
        raise AmusedError(
            f"This LATENT holds {odd:g}, which is not a token id: ids cannot be blended, added or scaled smoothly. "
            "Use 'nearest-exact' to scale, a feather of 0 to compose, and edit images for everything else."
        )
    low, high = latent.min().item(), latent.max().item()
    if low < 0 or high > codebook_size:
        raise AmusedError(
            f"This LATENT holds values from {low:g} to {high:g}; this model's are 0 (masked) to {codebook_size}. "
            "It belongs to another model."
        )
    return latent.float()


def codes_of(latent: Tensor, codebook_size: int) -> Tensor:
    """As `check_codes`; a stock empty latent (`EMPTY_CHANNELS`) is a grid that is masked all over."""
    grid = not latent.is_nested and latent.ndim == 4 and latent.shape[1] in EMPTY_CHANNELS
    return check_codes(latent[:, :1] if grid and not latent.any() else latent, codebook_size)


def check_sigmas(sigmas: Tensor) -> Tensor:
    """Mask ratios float32 [n+1].

    Raises:
        AmusedError: not falling within 1..0, or too many.
    """
    ratios = sigmas.detach().float().cpu()
    if len(ratios) > MAX_STEPS + 1:
        raise AmusedError(f"This run has {len(ratios) - 1} steps; allowed are 1 to {MAX_STEPS}.")
    if bool((ratios > 1.001).any() or (ratios < 0).any() or (ratios.diff() > 0).any()):
        raise AmusedError(
            f"These SIGMAS run from {ratios[0]:g} to {ratios[-1]:g}; aMUSEd's are mask ratios, falling within 1 to 0: "
            "use 'aMUSEd scheduler' or the stock 'BasicScheduler'."
        )
    return ratios.clamp(max=1)


def check_text(text: Tensor | None, pooled: Tensor | None, width: int, pooled_width: int) -> None:
    """Raises `AmusedError` unless a conditioning has the widths this model was trained with."""
    hint = "connect the CLIP of 'Load aMUSEd' to the text encoder."
    if text is None:
        raise AmusedError(f"This CONDITIONING has no text embedding; {hint}")
    if pooled is None:
        raise AmusedError(
            "This CONDITIONING has no pooled text ('pooled_output'), which an aMUSEd model needs besides the text: the "
            "node that encoded the prompt omits it. Use 'aMUSEd text encode' or the stock 'CLIP Text Encode', "
            "with the CLIP of 'Load aMUSEd'."
        )
    if text.shape[-1] != width or pooled.shape[-1] != pooled_width:
        raise AmusedError(
            f"This CONDITIONING is {text.shape[-1]} wide (pooled {pooled.shape[-1]}), but this aMUSEd model needs "
            f"{width} ({pooled_width}): it comes from another text encoder; {hint}"
        )


def tokens_of_one_hot(one_hot: Tensor, codebook_size: int, mask_id: int) -> Tensor:
    """One-hot [B,K,h,w] -> tokens int64 [B,h,w], masked cells holding `mask_id`.

    Raises:
        NoTokens: not one-hot grids of zeros with at most a single one, which no sampler but ours produces.
    """
    if one_hot.shape[1] == codebook_size:
        value, index = one_hot.max(dim=1)
        if bool(((value == 0) | (value == 1)).all() and (one_hot.abs().sum(dim=1) == value).all()):
            return torch.where(value > 0, index, mask_id)
    raise NoTokens("These one-hot grids hold something other than tokens.")


def before_sampling(
    executor: Any,
    noise: Tensor,
    latent_image: Tensor,
    sampler: Any,
    sigmas: Tensor,
    denoise_mask: Any = None,
    *args: Any,
    **kw: Any,
) -> Tensor:
    """Wraps a run (`WrappersMP.OUTER_SAMPLE`): checks it before the model is loaded, and fits masks and areas to cells.

    ComfyUI would shrink the mask smoothly and lose thin strokes; here a cell is regenerated when any pixel of it is.
    Newer versions have shrunk it already: a cell then has the mean of the pixels in its middle.
    """
    _refuse_stock_sampler(sampler)
    guider = executor.class_obj
    info = guider.model_patcher.model.info
    if bool(sigmas.isnan().any()):
        raise AmusedError(
            "These SIGMAS are NaN, as 'kl_optimal' makes them for 1 step; choose another scheduler or more steps."
        )
    check_codes(latent_image, info.codebook_size)
    patches.check(guider.model_options, len(noise))
    guider.conds = {side: [_area_to_cells(cond, info.factor) for cond in conds] for side, conds in guider.conds.items()}
    if denoise_mask is not None:
        grid = noise.shape[-2:]
        denoise_mask = mask_to_grid(denoise_mask, grid, ONE_OF_FOUR if denoise_mask.shape[-2:] == grid else HALF)
        if not denoise_mask.any():
            logger.warning("aMUSEd: the mask is empty, so no token is generated; paint the area to replace.")
    try:
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kw)
    except NoTokens:
        function = getattr(sampler, "sampler_function", sampler)
        raise AmusedError(patches.changed_tokens(function, guider.model_options)) from None


def mask_to_grid(mask: Tensor, grid: tuple[int, int], least: float = HALF) -> Tensor:
    """A noise mask [...,H,W] in 0..1 -> float [n,1,h,w] of 0 and 1: every cell with a pixel of at least `least`."""
    check_mask(mask)
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    return F.adaptive_max_pool2d((mask >= least).float(), tuple(grid))


def _area_to_cells(cond: dict[str, Any], factor: int) -> dict[str, Any]:
    """A conditioning whose area is in cells of `factor` pixels; 'Conditioning (Set Area)' counts in 8 pixels.

    Both edges are rounded down, so that areas side by side stay so.
    """
    area = cond.get("area")
    if area is None or area[0] == "percentage":
        return cond
    half = len(area) // 2
    pairs = zip(area[:half], area[half:], strict=True)
    edges = [(first * 8 // factor, (first + size) * 8 // factor) for size, first in pairs]
    sizes, firsts = [max(1, last - first) for first, last in edges], [first for first, _ in edges]
    return {**cond, "area": (*sizes, *firsts)}


def _refuse_stock_sampler(sampler: Any) -> None:
    """Stock samplers would run on one-hot grids and give garbage without an error; the trainer would learn noise."""
    if type(sampler).__name__ == "TrainSampler":
        raise AmusedError("The node 'TrainLoraNode' cannot train an aMUSEd model; use 'Train aMUSEd LoRA'.")
    function = getattr(sampler, "sampler_function", None)
    if isinstance(sampler, comfy.samplers.KSAMPLER) and is_comfyui(function):
        name = function.__name__.removeprefix("sample_").removesuffix("_function")
        raise AmusedError(patches.wrong_sampler(name))
