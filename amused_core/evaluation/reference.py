"""diffusers' own pipeline on the same weights and prompts, for `--reference diffusers`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from ..errors import AmusedError
from ..model import AmusedModel
from ..model.reference import DIFFUSERS_SETTINGS
from .generation import GeneratedImages, ProgressCallback, counted
from .targets import decode_tokens

_DEFAULTS = {"cfg_schedule": "constant", **DIFFUSERS_SETTINGS}


def load_reference(path: Path) -> Any:
    """diffusers' `AmusedPipeline` in fp32.

    Raises:
        AmusedError: `path` is not a folder, or diffusers cannot load it.
    """
    if not path.is_dir():
        raise AmusedError(f"--reference diffusers needs a model folder in diffusers' layout; {str(path)!r} is none.")
    try:
        from diffusers import AmusedPipeline

        pipeline = AmusedPipeline.from_pretrained(path).to(torch.float32)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise AmusedError(f"diffusers cannot load {str(path)!r}: {str(error).splitlines()[0]}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def check_reference(settings: Mapping[str, Any]) -> None:
    """Raises `AmusedError` where diffusers has nothing like a setting of a full set (`GeneratedImages.settings`)."""
    for name, only in _DEFAULTS.items():
        if settings.get(name, only) != only:
            raise AmusedError(f"--reference diffusers has no {name} {settings[name]!r}; allowed is {only!r}.")


def draw_reference(
    pipeline: Any,
    model: AmusedModel,
    texts: Sequence[str],
    settings: Mapping[str, Any],
    *,
    seed: int,
    batch: int,
    on_progress: ProgressCallback | None = None,
) -> GeneratedImages:
    """Draws `texts` as `generate_images` does with seeding "diffusers", with the `settings` of its result.

    The tokens are decoded by our VQ, which is diffusers' module as well.
    """
    check_reference(settings)
    pipeline.scheduler.register_to_config(masking_schedule=settings["schedule"])
    tokens, began = [], time.perf_counter()
    with counted(pipeline.transformer) as counter:
        for start in range(0, len(texts), batch):
            generator = Generator()
            generator.manual_seed(seed + start)
            output = pipeline(
                list(texts[start : start + batch]),
                negative_prompt=None,
                num_inference_steps=settings["steps"],
                guidance_scale=settings["cfg"],
                temperature=tuple(settings["temperature"]),
                width=settings["width"],
                height=settings["height"],
                generator=generator,
                output_type="latent",
            )
            tokens.append(output.images)
            if on_progress is not None:
                on_progress(min(start + batch, len(texts)), len(texts))
    grids = torch.cat(tokens)
    planes = decode_tokens(model, grids)
    seconds = time.perf_counter() - began
    return GeneratedImages(planes, grids, counter.rows / len(texts), seconds / len(texts), dict(settings))
