"""Plain prompts on the stock path: what ComfyUI works out for every code of every cell is constant there."""

from __future__ import annotations

from typing import Any, NamedTuple

import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from .. import compat
from ..latent.latent_format import tokens_to_codes
from . import checks

# The options of a run that ComfyUI's own prediction of conditions does not look at, or only to find this way.
_HARMLESS = {
    "transformer_options",
    "to_load_options",
    "context_handler",
    "denoise_mask_function",
    "disable_cfg1_optimization",
    "sampler_calc_cond_batch_function",
    "sampler_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
}
# What makes a conditioning more than one prompt for the whole picture, in every step, at full strength.
_MORE = ("area", "mask", "hooks", "control", "gligen", "default", "timestep_start", "timestep_end")


class Joined(NamedTuple):
    """What a model is asked: for the conditions with the indices `given`, side by side."""

    given: list[int]
    x: Tensor
    timestep: Tensor
    conds: dict[str, Any]


def plain_prompts(executor: Any, *args: Any, **kw: Any) -> list[Tensor]:
    """Wraps the prediction of all conditions (`WrappersMP.CALC_COND_BATCH`): the same logits, bit for bit.

    ComfyUI weights and averages the predictions of regions in tensors of the size of the one-hot grids; with one prompt
    for the whole picture all weights are 1. Anything else is left to ComfyUI. At 512 pixels a step of a run that a node
    has patched takes 12 % less time so.
    """
    joined = compat.try_fast_path(_join, *args) if not kw else None
    if joined is None:
        return executor(*args, **kw)
    model, conds, one_hot = args[:3]
    logits = model.apply_model(joined.x, joined.timestep, **joined.conds)
    found = dict(zip(joined.given, logits.chunk(len(joined.given)), strict=True))
    return [found[index] if index in found else torch.zeros_like(one_hot) for index in range(len(conds))]


def _join(
    model: Any, conds: list[list[dict[str, Any]] | None], x: Tensor, timestep: Tensor, options: dict[str, Any]
) -> Joined | None:
    """Plain prompts side by side over the one-hot grids `x` [B,K,h,w]; None where anything is more than that."""
    if not _plain(conds, options):
        return None
    given = [index for index in reversed(range(len(conds))) if conds[index] is not None]  # ComfyUI's order.
    if not fits(model, [len(given) * len(x), *x.shape[1:]], x.device):
        return None
    info = model.info
    tokens = checks.tokens_of_one_hot(x, info.codebook_size, info.mask_token_id)
    codes = tokens_to_codes(tokens, info.codebook_size)  # ComfyUI makes weights of this shape.
    parts = [comfy.samplers.get_area_and_mult(conds[index][0], codes, timestep) for index in given]
    if not all(comfy.samplers.cond_equal_size(parts[0].conditioning, part.conditioning) for part in parts):
        return None  # Texts of very different length run one by one.
    joined = comfy.samplers.cond_cat([part.conditioning for part in parts])
    joined["tokens"] = tokens.repeat(len(given), 1, 1)
    uuids = [part.uuid for part in parts]
    compat.prepare_state(model.current_patcher, timestep, options)
    joined["transformer_options"] = {
        **model.current_patcher.apply_hooks(hooks=None),
        **options.get("transformer_options", {}),
        "cond_or_uncond": given,
        "uuids": uuids,
        "sigmas": timestep,
    }
    return Joined(given, torch.cat([codes] * len(given)), torch.cat([timestep] * len(given)), joined)


def is_steady(model: Any, options: dict[str, Any]) -> bool:
    """Whether a run's transformer options leave the weights and what the model is asked alone, from step to step."""
    between = (WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL)
    found = [wrapper for kind in between for wrapper in comfy.patcher_extension.get_all_wrappers(kind, options)]
    changing = (CallbacksMP.ON_PREPARE_STATE, CallbacksMP.ON_APPLY_HOOKS)
    changes = any(comfy.patcher_extension.get_all_callbacks(kind, options) for kind in changing)
    patcher = model.current_patcher
    hooked = patcher is None or patcher.hook_patches or patcher.current_hooks is not None
    return found == [plain_prompts] and not hooked and not changes


def is_plain(cond: list[dict[str, Any]] | None) -> bool:
    """Whether a side of the guidance is one prompt for the whole picture, in every step, at full strength."""
    return cond is not None and len(cond) == 1 and _whole(cond[0])


def fits(model: Any, shape: list[int], device: torch.device) -> bool:
    """Whether ComfyUI would run one-hot grids of this shape in one go."""
    return model.memory_required(shape) * 1.5 < compat.free_memory(model.current_patcher, device)


def _plain(conds: list[list[dict[str, Any]] | None], options: dict[str, Any]) -> bool:
    if not options.keys() <= _HARMLESS or options.get("transformer_options", {}).get("patches"):
        return False
    if comfy.patcher_extension.get_all_wrappers(WrappersMP.APPLY_MODEL, options, is_model_options=True):
        return False
    given = [cond for cond in conds if cond is not None]
    return bool(given) and all(is_plain(cond) for cond in given)


def _whole(cond: dict[str, Any]) -> bool:
    return cond.get("strength", 1.0) == 1.0 and all(cond.get(name) is None for name in _MORE)
