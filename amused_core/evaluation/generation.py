"""Generating many pictures with a model, and counting what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..model import AmusedModel
from ..sampling.randomness import MAX_SEED
from .features import to_planes

ProgressCallback = Callable[[int, int], None]

# What a picture says of itself that is no setting to compare.
NOT_MEASURED = ("prompt", "seed", "keep_original")


@dataclass(frozen=True)
class GeneratedImages:
    """The pictures of many prompts and their cost.

    Attributes:
        planes: float32 [B,3,128,128] in 0..1.
        tokens: int64 [B,h,w].
        passes: forward passes of the U-ViT for each picture, the mean; counted, not computed.
        seconds: wall time for each picture, the mean.
        settings: the settings in full, without what differs between pictures.
    """

    planes: Tensor
    tokens: Tensor
    passes: float
    seconds: float
    settings: dict[str, Any]


class Counter:
    """Rows that went through a U-ViT: two for each picture in a guided step, one in another."""

    rows = 0


@contextmanager
def counted(uvit: nn.Module) -> Iterator[Counter]:
    """Counts the rows that go through a U-ViT, ours or diffusers', by what comes out of its embedding."""
    counter = Counter()

    def add(_module: nn.Module, _arguments: Any, output: Tensor) -> None:
        counter.rows += len(output)

    handle = uvit.embed.register_forward_hook(add)
    try:
        yield counter
    finally:
        handle.remove()


def generate_images(
    model: AmusedModel,
    texts: Sequence[str],
    settings: dict[str, Any],
    *,
    seed: int = 0,
    seeding: str = "per_image",
    batch: int = 25,
    images: Tensor | None = None,
    masks: Tensor | None = None,
    on_progress: ProgressCallback | None = None,
) -> GeneratedImages:
    """Generates one picture for each of `texts`.

    Picture i has `seed + i` (`seeding` "diffusers": the batch that begins with it has).

    Args:
        model: what draws.
        texts: the prompts.
        settings: further arguments of `AmusedModel.generate`.
        seed: of the first picture.
        seeding: "per_image" or "diffusers".
        batch: pictures at a time.
        images: float [B,H,W,3] to start from, or None.
        masks: float [B,H,W], 1 where they are regenerated, or None; what is measured is the model's whole picture.
        on_progress: called with (pictures done, pictures in all) after each batch.
    """
    planes, tokens, used, began = [], [], {}, time.perf_counter()
    with counted(model.transformer) as counter:
        for start in range(0, len(texts), batch):
            rows = slice(start, start + batch)
            piece = list(texts[rows])
            seeds = [(seed + start + i) % (MAX_SEED + 1) for i in range(len(piece))]
            result = model.generate(
                piece,
                image=None if images is None else images[rows],
                mask=None if masks is None else masks[rows],
                seed=seeds if seeding == "per_image" else seeds[0],
                seeding=seeding,
                reuse=False,  # so that counts are those of the method
                keep_original=False,
                **settings,
            )
            planes.append(to_planes(result.images))
            tokens.append(result.tokens)
            used = {key: value for key, value in result.settings[0].items() if key not in NOT_MEASURED}
            if on_progress is not None:
                on_progress(min(start + batch, len(texts)), len(texts))
    seconds = time.perf_counter() - began
    return GeneratedImages(torch.cat(planes), torch.cat(tokens), counter.rows / len(texts), seconds / len(texts), used)
