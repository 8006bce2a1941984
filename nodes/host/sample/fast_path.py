"""The fast path: the core's own predictor inside a ComfyUI run, where ComfyUI would only run the model and guide.

ComfyUI works out the logits of every code of every cell for both prompts, and its sampler hands the model one-hot
grids; the core takes tokens, guides the features that the logits are linear in, and makes logits of the masked cells
only. The prompts are encoded once, at the start of the run.
"""

from __future__ import annotations

import logging
import math
from functools import lru_cache
from typing import Any, NamedTuple

import comfy.samplers
import torch
from torch import Tensor

from ....amused_core.networks.attention import OBSERVER
from ....amused_core.networks.encoded_prompt import EncodedPrompt, encode_embeddings
from ....amused_core.networks.predictor import predictor as core_predictor
from ....amused_core.networks.text import TextEmbedding
from ....amused_core.sampling.loop import Predict
from ....amused_core.sampling.schedule import Progress, Schedule
from .. import compat
from ..model.transformer import INT8, HostTransformer
from ..origin import is_comfyui
from . import plain
from .speed import LIMIT, GuidanceLimit

# Our sampler takes the mask itself, so that function is never called.
_MODEL_OPTIONS = {"transformer_options", "to_load_options", "denoise_mask_function", LIMIT}
_TRANSFORMER_OPTIONS = {"wrappers", "callbacks", "sample_sigmas", INT8, OBSERVER}
_METHODS = ("__call__", "outer_predict_noise", "predict_noise")
_FUNCTIONS = ("sampling_function", "calc_cond_batch", "cfg_function")
_PARTS = ("c_crossattn", "y", "micro")
logger = logging.getLogger(__name__)


class Run(NamedTuple):
    """What the core's predictor needs of a run: the parts of the positive prompt, and of the negative one if wanted."""

    model: Any
    uvit: HostTransformer
    texts: list[list[Tensor]]
    weights: list[float]
    every: int
    options: dict[str, Any]
    device: torch.device


def predictor(
    wrapped: Any,
    options: dict[str, Any],
    weights: list[float] | None,
    schedule: Schedule,
    shape: tuple[int, int, int],
    cfg_rescale: float,
) -> Predict | None:
    """Logits as `wrapped` would give them, but for rounding; None where anything might make them others.

    Args:
        wrapped: the model as a sampler function gets it.
        options: the run's model options.
        weights: the guidance of each step; None: the guider's own.
        schedule: the steps of the run.
        shape: (B,h,w) of the tokens.
        cfg_rescale: `share` of `guidance.rescale`.
    """
    run = compat.try_fast_path(_read, wrapped, options, weights, schedule, shape)
    if not isinstance(run, Run):
        _log_stock_path(run)
        return None
    info = run.model.info
    cond, *uncond = (_encode(run, text, shape[0]) for text in run.texts)
    negative = uncond[0] if uncond else None
    ask = core_predictor(run.uvit, cond, negative, run.weights, run.every, run.options, cfg_rescale)

    def predict(tokens: Tensor, progress: Progress, cells: Tensor) -> Tensor:
        # Our sampler has ids of its own for what is masked.
        return ask(tokens.masked_fill(tokens >= info.codebook_size, info.mask_token_id), progress, cells)

    return predict


def _read(
    wrapped: Any, options: dict[str, Any], weights: list[float] | None, schedule: Schedule, shape: tuple[int, int, int]
) -> Run | str:
    """The run, or why it takes the stock path; only looks at what ComfyUI has."""
    if obstacle := _obstacle(wrapped, options):
        return obstacle
    guider = wrapped.inner_model
    model, device = guider.inner_model, guider.model_patcher.load_device
    weights, every, limit = weights or [guider.cfg] * len(schedule), 1, options.get(LIMIT)
    if limit is not None:
        weights, every = limit.weights(weights, schedule), limit.cfg_every
    weights = [1.0 if math.isclose(weight, 1.0) else weight for weight in weights]  # As ComfyUI leaves guidance out.
    sides = ["positive"] if all(weight == 1 for weight in weights) else ["positive", "negative"]
    conds = [guider.conds.get(side) for side in sides]
    if not all(plain.is_plain(cond) and _for_pictures(cond[0], shape[0]) for cond in conds):
        return "the CONDITIONING is more than one prompt for the whole image"
    texts = [[cond[0]["model_conds"][part].cond for part in _PARTS] for cond in conds]
    one_hot = [len(texts) * shape[0], model.info.codebook_size, *shape[1:]]
    if any(text[0].shape[1:] != texts[0][0].shape[1:] for text in texts):
        return "the prompts differ in length"
    if not plain.fits(model, one_hot, device):
        return "the memory does not suffice for the whole batch at once"
    own = options["transformer_options"]
    return Run(model, model.diffusion_model.select(own), texts, weights, every, own, device)


@lru_cache(maxsize=64)
def _log_stock_path(reason: str | None) -> None:
    """Once for each reason; `compat` has logged why there is none."""
    if reason:
        logger.info("aMUSEd: sampling takes ComfyUI's stock path, which is slower: %s.", reason)


def _encode(run: Run, parts: list[Tensor], batch: int) -> list[EncodedPrompt]:
    """The encoded prompt of each picture; equal ones are one object, unless somebody watches each picture's passes."""
    count = max(map(len, parts))
    encoded: dict[bytes, EncodedPrompt] = {}
    prompts = []
    for index in range(count):
        row = [part[index % len(part)][None] for part in parts]
        key = b"".join(part.float().cpu().numpy().tobytes() for part in row)
        if key not in encoded:
            text, pooled, micro = run.model.cast(*row, run.device)
            (encoded[key],) = encode_embeddings(run.uvit, TextEmbedding(text, pooled), micro)
        prompts.append(encoded[key])
    prompts = prompts * batch if count == 1 else prompts
    return [EncodedPrompt(prompt.condition) for prompt in prompts] if OBSERVER in run.options else prompts


def _obstacle(wrapped: Any, options: dict[str, Any]) -> str | None:
    """What is between the sampler and the U-ViT besides ComfyUI's own code and ours; None if nothing is."""
    if type(wrapped) is not comfy.samplers.KSamplerX0Inpaint:
        return f"a {type(wrapped).__name__} wraps the model"
    guider, stock = wrapped.inner_model, comfy.samplers.CFGGuider
    limit, own = options.get(LIMIT), options.get("transformer_options", {})
    same = all(getattr(type(guider), name, None) is getattr(stock, name) for name in _METHODS)
    if not same or any(name in vars(guider) for name in _METHODS):
        return f"the guider is a {type(guider).__name__}"
    if replaced := [name for name in _FUNCTIONS if not is_comfyui(getattr(comfy.samplers, name))]:
        return f"a node replaced {replaced[0]}"
    if more := (options.keys() - _MODEL_OPTIONS) | (own.keys() - _TRANSFORMER_OPTIONS):
        return f"the MODEL has {', '.join(sorted(more))}"
    if limit is not None and type(limit) is not GuidanceLimit:
        return f"the MODEL has {LIMIT}"
    if not plain.is_steady(guider.inner_model, own):
        return "the MODEL has wrappers, callbacks or hooks"
    transformer = guider.inner_model.diffusion_model
    if not isinstance(transformer, HostTransformer) or "forward" in vars(transformer):
        return "the U-ViT is wrapped"
    return None


def _for_pictures(cond: dict[str, Any], batch: int) -> bool:
    """Whether a conditioning has one row for all pictures or one for each, and nothing our model has not asked for."""
    parts = cond["model_conds"]
    return parts.keys() == set(_PARTS) and all(len(part.cond) in (1, batch) for part in parts.values())
