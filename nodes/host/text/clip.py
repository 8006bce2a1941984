"""The CLIP: ComfyUI's own text encoder with a checkpoint's sizes, so that weights and embeddings work."""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.clip_model
import comfy.ldm.modules.attention as stock
import comfy.model_management
import comfy.sd
import folder_paths
import torch
from comfy.patcher_extension import CallbacksMP
from comfy.sd1_clip import SD1ClipModel, SDClipModel
from comfy.supported_models_base import ClipTarget
from torch import Tensor

from ....amused_core.checkpoint import Checkpoint
from ....amused_core.errors import CheckpointError
from ....amused_core.insight.words import pack, words_of
from ....amused_core.model.loading import load_state
from .. import compat
from ..model.attention import prefer_torch_attention
from ..model.layers import patch_left_out
from .tokenizer import tokenizer_class

MIN_LAYERS = 3


class TextAttention(comfy.clip_model.CLIPAttention):
    """ComfyUI's, on a CPU by torch's attention unless it was told otherwise."""

    def forward(self, x: Tensor, mask: Tensor | None = None, optimized_attention: Any = None) -> Tensor:
        """`x` [B,L,D] -> [B,L,D]."""
        return super().forward(x, mask, prefer_torch_attention(optimized_attention, stock.attention_basic, x.device))


class TextModel(comfy.clip_model.CLIPTextModel):
    """ComfyUI's CLIP text model with a vocabulary and a projection of any size."""

    def __init__(self, config: dict[str, Any], dtype: Any, device: Any, operations: Any) -> None:
        super().__init__(config, dtype, device, operations)
        width, kw = config["hidden_size"], {"dtype": dtype, "device": device}
        self.text_model.embeddings = comfy.clip_model.CLIPEmbeddings(
            width, config["vocab_size"], config["max_position_embeddings"], operations=operations, **kw
        )
        for layer in self.text_model.encoder.layers:
            layer.self_attn = TextAttention(width, config["num_attention_heads"], operations=operations, **kw)
        self.text_projection = operations.Linear(width, config["projection_dim"], bias=False, **kw)


class AmusedClipModel(SD1ClipModel):
    """Penultimate hidden states and the projected pooled embedding, marked as aMUSEd's in the conditioning.

    The conditioning also knows the word of each token, so that maps of attention can name it: as a tensor, since stock
    nodes expect tensors and numbers, and go astray in a text. `stored_config` is the
    checkpoint's own, for saving.
    """

    def __init__(self, tokenizer: Any, stored_config: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tokenizer = tokenizer
        self.stored_config = stored_config

    def encode_token_weights(self, token_weight_pairs: dict[str, Any]) -> tuple[Any, ...]:
        """Hidden states [1,L,D], pooled [1,P], and entries that ComfyUI adds to the conditioning."""
        hidden, pooled, *extra = super().encode_token_weights(token_weight_pairs)
        ids = [pair[0] for section in token_weight_pairs[self.clip_name] for pair in section]
        words = pack(words_of(self.tokenizer, ids))
        return hidden, pooled, {**(extra[0] if extra else {}), "amused": True, "amused_words": words}


def load_clip(checkpoint: Checkpoint, dtype: torch.dtype | None) -> comfy.sd.CLIP:
    """The CLIP of a checkpoint.

    Args:
        checkpoint: where weights and tokenizer are.
        dtype: of the weights; None is fp32 on a CPU, else ComfyUI's choice. The computation is fp32 in any case.

    Raises:
        CheckpointError: damaged weights, or fewer than 3 layers, for which ComfyUI has no penultimate one.
    """
    config = _config(checkpoint)
    device = comfy.model_management.text_encoder_device()
    if dtype is None:
        on_cpu = comfy.model_management.is_device_cpu(device)
        dtype = torch.float32 if on_cpu else comfy.model_management.text_encoder_dtype(device)
    tokenizer = checkpoint.tokenizer()
    stored_config = checkpoint.config("text_encoder")
    model = partial(AmusedClipModel, tokenizer, stored_config, clip_model=_encoder(tokenizer, config))
    target = ClipTarget(tokenizer_class(tokenizer, config, checkpoint), model)
    clip = compat.make_clip(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        model_options={"dtype": dtype, "initial_device": comfy.model_management.text_encoder_offload_device()},
    )
    clip.patcher.add_callback_with_key(CallbacksMP.ON_LOAD, "amused", patch_left_out)
    # Older checkpoints store this constant buffer.
    stored = {key: value for key, value in checkpoint.state("text_encoder").items() if "position_ids" not in key}
    weights = {key: value.to(dtype) for key, value in stored.items()}
    load_state(clip.cond_stage_model.clip_l.transformer, weights, "text_encoder", checkpoint.path)
    clip.patcher.cached_patcher_init = (_load_again, (checkpoint, dtype))
    return clip


def _load_again(checkpoint: Checkpoint, dtype: torch.dtype, **_: Any) -> Any:
    """What newer ComfyUIs call where a node wants weights of its own (hooks, another device)."""
    return load_clip(checkpoint, dtype).patcher


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    from transformers import CLIPTextConfig

    config = CLIPTextConfig(**checkpoint.config("text_encoder")).to_dict()
    if config["num_hidden_layers"] < MIN_LAYERS:
        raise CheckpointError(
            f"The text encoder of {checkpoint.name!r} has {config['num_hidden_layers']} layers; ComfyUI needs at least "
            f"{MIN_LAYERS} to take the last but one."
        )
    return config


def _encoder(tokenizer: Any, config: dict[str, Any]) -> partial[SDClipModel]:
    special = {"start": tokenizer.bos_token_id, "end": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    return partial(
        SDClipModel,
        layer="hidden",
        layer_idx=-2,
        textmodel_json_config=config,
        model_class=TextModel,
        special_tokens=special,
        layer_norm_hidden_state=False,
        return_projected_pooled=True,
    )
