"""The three parts of a checkpoint, loaded together."""

from __future__ import annotations

import logging
from typing import Any

import torch

from ....amused_core.check.summary import short_form
from ....amused_core.errors import AmusedError
from ..latent.vae import load_vae
from ..model.base_model import load_model
from ..text.clip import load_clip
from . import folders

DTYPES = {"auto": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
logger = logging.getLogger(__name__)


def load(name: str, dtype: str, text_dtype: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the checkpoint called `name`; dtypes are "auto", "fp32", "fp16" or "bf16".

    Raises:
        CheckpointError: no such model, or a damaged one.
        AmusedError: an unknown dtype.
    """
    for label, value in (("dtype", dtype), ("text_encoder_dtype", text_dtype)):
        if value not in DTYPES:
            raise AmusedError(f"{label} is {value!r}; allowed are {', '.join(DTYPES)}.")
    checkpoint = folders.open_model(name)
    logger.info("aMUSEd: %s", short_form(checkpoint))
    vae = load_vae(checkpoint)
    model = load_model(checkpoint, DTYPES[dtype], vae.code_colors, vae.previewer)
    return model, load_clip(checkpoint, DTYPES[text_dtype]), vae
