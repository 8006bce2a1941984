"""The MODEL: our U-ViT as a ComfyUI `BaseModel` inside a `ModelPatcher`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.model_management
import comfy.supported_models_base
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ....amused_core.checkpoint import Checkpoint
from ....amused_core.checkpoint.graph_file import KEYS, describe
from ....amused_core.errors import AmusedError
from ....amused_core.families import Family
from ....amused_core.model.loading import load_state
from ....amused_core.settings import Recommended
from .. import compat
from ..latent.latent_format import AmusedLatentFormat
from ..load import folders
from ..sample import checks
from ..sample.plain import plain_prompts
from .condition_cache import ConditionCache, clear_conditions
from .layers import comfy_layers, patch_left_out, patch_response_norms
from .model_sampling import AmusedModelSampling
from .transformer import HostTransformer, attend, host_transformer

AESTHETIC_SCORE = 6.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInfo:
    """What nodes ask of an aMUSEd MODEL. `factor` is pixels per cell side."""

    name: str
    codebook_size: int
    mask_token_id: int
    factor: int
    schedule: str
    recommended: Recommended
    family: Family


class Settings(dict[str, Any]):
    """A UNet's settings for nodes that ask; there are none."""

    def __missing__(self, key: str) -> Any:
        """Raises `AmusedError`."""
        raise AmusedError(f"This node needs the {key!r} of a UNet, which an aMUSEd model is not; remove the node.")


class ModelConfig(comfy.supported_models_base.BASE):
    """ComfyUI's description of the model, without the U-ViT's own config: LoRA loaders would take it for a UNet."""

    def __init__(self, latent_format: AmusedLatentFormat, dtype: torch.dtype, compute: torch.dtype | None) -> None:
        super().__init__({"disable_unet_model_creation": True})
        self.unet_config = Settings(self.unet_config)
        self.latent_format = latent_format
        self.set_inference_dtype(dtype, compute)


class AmusedBaseModel(comfy.model_base.BaseModel):
    """One-hot tokens in, logits out: the logits of every code are what ComfyUI calls the denoised prediction.

    So its `uncond + cfg * (cond - uncond)` is aMUSEd's own guidance.
    """

    def __init__(
        self, config: ModelConfig, unet: HostTransformer, info: ModelInfo, device: torch.device, checkpoint: Checkpoint
    ) -> None:
        super().__init__(config, device=device)
        self.checkpoint = checkpoint
        self.info = info
        self.diffusion_model = unet
        self.model_sampling = AmusedModelSampling(info.schedule)
        self.condition_cache = ConditionCache()

    def _apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Any = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """`x` [B,K,h,w] one-hot grids -> logits float32 [B,K,h,w]. The conditions are cast, never the one-hot grids.

        Where `tokens` int64 [B,h,w] are given (by `plain_prompts`), `x` is not looked at.
        """
        if 0 in x.shape:
            raise AmusedError("An area of the CONDITIONING is empty or lies outside the image; move it into it.")
        tokens = kwargs.get("tokens")
        if tokens is None:
            tokens = checks.tokens_of_one_hot(x, self.info.codebook_size, self.info.mask_token_id)
        given = self.cast(c_crossattn, kwargs["y"], kwargs["micro"], x.device)
        known = self.condition_cache.get(self, given, transformer_options)
        logits = self.diffusion_model(tokens, *given, transformer_options, known)
        if not bool(torch.isfinite(logits).all()):
            raise AmusedError(
                "The model gives NaN or infinite logits: merges, LoRAs or a number format have spoilt its weights."
            )
        return self.model_sampling.calculate_denoised(t, logits.float(), x)

    def cast(self, text: Tensor, pooled: Tensor, micro: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """A prompt on the device, its embeddings in the dtype the U-ViT computes in."""
        dtype = self.manual_cast_dtype or self.get_dtype()
        text, pooled = (comfy.model_management.cast_to_device(part, device, dtype) for part in (text, pooled))
        return text, pooled, micro.to(device)

    def extra_conds(self, **kwargs: Any) -> dict[str, comfy.conds.CONDRegular]:
        """Text, pooled text and micro-conditioning of one conditioning entry."""
        text, pooled = kwargs.get("cross_attn"), kwargs.get("pooled_output")
        config = self.diffusion_model.config
        checks.check_text(text, pooled, config.encoder_hidden_size, config.cond_embed_dim)
        # Clip hooks drop the mark, but leave another trace.
        if not {"amused", "clip_start_percent"} & kwargs.keys():
            logger.warning("aMUSEd: a prompt was not encoded by the CLIP of 'Load aMUSEd'; it may not be understood.")
        return {
            "c_crossattn": comfy.conds.CONDCrossAttn(text),
            "y": comfy.conds.CONDRegular(pooled),
            "micro": comfy.conds.CONDRegular(torch.tensor([self._micro(kwargs)], dtype=torch.float32)),
        }

    def _micro(self, cond: dict[str, Any]) -> tuple[float, ...]:
        """Width, height, crop top, crop left, aesthetic score; what is not given is the picture's own.

        ComfyUI fills in `width` and `height` itself, for 8 pixels a cell: they count only beside an aesthetic score,
        which its node for SDXL's refiner sets.
        """
        height, width = (side * self.info.factor for side in cond["noise"].shape[-2:])
        own = cond.get("amused_micro")
        if own is None and "aesthetic_score" in cond:
            own = (cond["width"], cond["height"], 0, 0, cond["aesthetic_score"])
        if own is None:
            own = (0, 0, 0, 0, AESTHETIC_SCORE)
        return (own[0] or width, own[1] or height, *own[2:])

    def state_dict_for_saving(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """What ComfyUI's nodes save, and what `GraphFile` reads the weights with."""
        about = describe("transformer", self.checkpoint, folders.name_of(self.checkpoint.path))
        return {**super().state_dict_for_saving(*args, **kwargs), KEYS["transformer"]: about}

    def scale_latent_inpaint(self, latent_image: Tensor, **kwargs: Any) -> Tensor:
        """Cells outside a mask keep their tokens at every mask ratio."""
        return latent_image


def load_model(
    checkpoint: Checkpoint,
    dtype: torch.dtype | None,
    colors: Callable[[], Tensor],
    decoder: Callable[[], Callable[[Tensor], Tensor]] | None = None,
) -> ModelPatcher:
    """The MODEL of a checkpoint.

    Args:
        checkpoint: where the weights are.
        dtype: of the weights; None is fp32 on a CPU, else what ComfyUI thinks best for the device.
        colors: mean colour of each code, for cheap previews.
        decoder: for good ones; see `AmusedLatentFormat`.
    """
    management = comfy.model_management
    device, offload = management.get_torch_device(), management.unet_offload_device()
    config = checkpoint.transformer_config
    if dtype is None:
        weights = list(checkpoint.layout("transformer").values())
        stored = next((weight.dtype for weight in weights), None)
        dtype = management.unet_dtype(device, sum(weight.numel() for weight in weights), weight_dtype=stored)
    compute = management.unet_manual_cast(dtype, device)
    unet = host_transformer(checkpoint.family)(config, comfy_layers(dtype, compute), attend, device="meta")
    load_state(unet, checkpoint.state("transformer"), "transformer", checkpoint.path)
    unet.eval().to(device=offload, dtype=dtype)
    unet.dtype = dtype
    info = ModelInfo(
        checkpoint.name,
        config.codebook_size,
        checkpoint.mask_token_id,
        checkpoint.factor,
        checkpoint.schedule,
        checkpoint.recommended,
        checkpoint.family,
    )
    latent_format = AmusedLatentFormat(config.codebook_size, checkpoint.factor, colors, decoder)
    model = AmusedBaseModel(ModelConfig(latent_format, dtype, compute), unet, info, offload, checkpoint)
    patcher = ModelPatcher(model, load_device=device, offload_device=offload)
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "amused", checks.before_sampling)
    if compat.fast_path_problem() is None:
        patcher.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "amused", plain_prompts)
    patcher.add_callback_with_key(CallbacksMP.ON_LOAD, "amused", patch_response_norms)
    patcher.add_callback_with_key(CallbacksMP.ON_LOAD, "amused", patch_left_out)
    for event in (CallbacksMP.ON_PRE_RUN, CallbacksMP.ON_CLEANUP):
        patcher.add_callback_with_key(event, "amused", clear_conditions)
    patcher.cached_patcher_init = (_load_again, (checkpoint, dtype, colors, decoder))
    return patcher


def _load_again(*arguments: Any, **_: Any) -> ModelPatcher:
    """What newer ComfyUIs call where a node wants weights of its own (training, another device)."""
    return load_model(*arguments)
