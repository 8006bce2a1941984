"""diffusers' own pipeline on the weights of a checkpoint: the reference that this package is measured against."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..checkpoint import Checkpoint
from .loading import build_text, load_state

# What diffusers has no setting for, as it does it, whatever a checkpoint recommends.
DIFFUSERS_SETTINGS: dict[str, Any] = {
    "sampling_temperature": 1.0,
    "sampling_temperature_end": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "order": "confidence",
    "revision": 0.0,
    "cfg_rescale": 0.0,
}


def diffusers_pipeline(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """diffusers' `AmusedPipeline` on the CPU, without a progress bar, all of it in `dtype`, as it loads there."""
    from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel

    modules = {}
    for part, cls in (("transformer", UVit2DModel), ("vqvae", VQModel)):
        with torch.device("meta"):
            modules[part] = cls.from_config(checkpoint.config(part)).eval()
        load_state(modules[part], checkpoint.state(part), part, checkpoint.path)
    text = build_text(checkpoint, dtype)
    pipe = AmusedPipeline(
        vqvae=nn.Module.to(modules["vqvae"], dtype),
        tokenizer=text.tokenizer,
        text_encoder=text.module,
        transformer=nn.Module.to(modules["transformer"], dtype),
        scheduler=AmusedScheduler(checkpoint.mask_token_id, checkpoint.recommended.schedule),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
