"""Images that a checkpoint must give: the published golden cases, and those of diffusers on the same weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..checkpoint import Checkpoint
from ..model import AmusedModel
from ..model.reference import DIFFUSERS_SETTINGS, diffusers_pipeline
from .configs import published_name
from .findings import Finding
from .weights import dtype_names

# diffusers' former slow tests: this prompt, two steps, its defaults, a generator on the CPU.
PROMPT, STEPS, CFG, TEMPERATURE = "dog", 2, 10.0, (2.0, 0.0)


class Golden(NamedTuple):
    """The last 3x3 pixels of the last channel, row by row, and how far each may be from it."""

    pixels: tuple[float, ...]
    tolerance: float


# By published checkpoint and the dtype that it is stored in.
GOLDENS = {
    ("amused-256", torch.float32): Golden(
        (0.4011, 0.3992, 0.379, 0.3856, 0.3772, 0.3711, 0.3919, 0.385, 0.3625), 0.003
    ),
    ("amused-256", torch.float16): Golden(
        (0.0554, 0.05129, 0.0344, 0.0452, 0.0476, 0.0271, 0.0495, 0.0527, 0.0158), 0.007
    ),
    ("amused-512", torch.float32): Golden(
        (0.1199, 0.1171, 0.1229, 0.1188, 0.1210, 0.1147, 0.1260, 0.1346, 0.1152), 0.003
    ),
    ("amused-512", torch.float16): Golden(
        (0.1509, 0.1492, 0.1531, 0.1485, 0.1501, 0.1465, 0.1581, 0.1690, 0.1499), 0.003
    ),
}


def golden_of(checkpoint: Checkpoint, dtype: torch.dtype) -> Golden | None:
    """The golden case of a checkpoint that runs in `dtype`: its own, or that of the published model.

    A checkpoint's own is `golden` in its `amused.json`: `pixels`, and the `dtype` it is stored in, such as "fp16"; a
    copy in another dtype is another model.
    """
    own = checkpoint.extra().get("golden")
    if isinstance(own, dict):
        same = own.get("dtype") == dtype_names([stored_dtype(checkpoint)])
        return Golden(tuple(map(float, own["pixels"])), 0.003) if same else None
    return GOLDENS.get((published_name(checkpoint), dtype))


def golden_finding(model: AmusedModel) -> Finding:
    """Draws the golden case and compares.

    The published pixels in fp16 are of a GPU, and those in fp32 of weights in fp32: half-precision weights that run in
    fp32 may miss both.
    """
    result = model.generate(
        PROMPT, steps=STEPS, cfg=CFG, temperature=TEMPERATURE, schedule="cosine", seeding="diffusers", **_PLAIN
    )
    pixels = result.images[0, -3:, -3:, -1].flatten()
    shown = " ".join(f"{pixel:.4f}" for pixel in pixels.tolist())
    dtype, golden = model.transformer.dtype, golden_of(model.checkpoint, model.transformer.dtype)
    if golden is None:
        return Finding("golden image", None, f"none is known for these sizes in {dtype}; the pixels are {shown}")
    farthest = float((pixels - torch.tensor(golden.pixels)).abs().max())
    as_published = "golden" in model.checkpoint.extra() or stored_dtype(model.checkpoint) == dtype
    passed = farthest <= golden.tolerance or (False if as_published else None)
    result = f"{shown}; at most {farthest:.4f} from the golden pixels, allowed are {golden.tolerance}"
    return Finding("golden image", passed, result)


def stored_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """The dtype of the transformer's weights in the file."""
    return next(iter(checkpoint.layout("transformer").values())).dtype


def reference_finding(checkpoint: Checkpoint, model: AmusedModel, dtype: torch.dtype) -> Finding:
    """Draws with the recommended settings here and in diffusers, on the same weights, and compares the tokens."""
    settings = model.request(prompt=PROMPT, settings=_PLAIN).settings
    ours = model.generate(PROMPT, seeding="diffusers", **_PLAIN, schedule=settings.schedule)
    theirs = _diffusers_tokens(checkpoint, dtype, settings.steps, settings.cfg, settings.temperature)
    same = int((ours.tokens == theirs).sum())
    name = f"diffusers' tokens, {settings.steps} steps, guidance {settings.cfg:g}"
    return Finding(name, same == theirs.numel(), f"{same} of {theirs.numel()} are equal")


def _diffusers_tokens(
    checkpoint: Checkpoint, dtype: torch.dtype, steps: int, cfg: float, temperature: tuple[float, float]
) -> Tensor:
    tokens = diffusers_pipeline(checkpoint, dtype)(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=cfg,
        temperature=temperature,
        width=checkpoint.recommended.width,
        height=checkpoint.recommended.height,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).images
    return tokens.reshape(-1, checkpoint.recommended.height // checkpoint.factor, tokens.shape[-1])


# Draw codes from the model's own probabilities, whatever the checkpoint recommends.
_PLAIN = {"cfg_schedule": "constant", **DIFFUSERS_SETTINGS}
