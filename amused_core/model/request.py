"""A request to generate, with every default filled in and every input checked."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import Checkpoint
from ..errors import AmusedError
from ..images import pixels
from ..images.composite import composite
from ..images.masks import cells_to_mask
from ..sampling.randomness import SEEDINGS, Draws, PerImageDraws, SharedDraws, seeded
from ..sampling.schedule import start_step
from ..settings import Recommended, SamplingSettings, inputs, resolve_settings

# Times the recommended area from which on a run is slow enough to say so.
LARGE = 16

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What one run does.

    Attributes:
        prompts, negatives: one string, or one per picture.
        pixels: float [n,H,W,3] to start from, or None.
        region: bool cells [m,h,w] to draw anew, or None.
        width, height: pixels.
        settings: how to sample, every default filled in.
        start: steps left out at the beginning of the schedule.
        whole_region: the region starts fully masked even when steps are left out (diffusers' inpainting).
        strength, seeds, seeding, keep_original: as in `AmusedModel.generate`; one seed, or one per picture.
        batch: number of pictures.
        draws: their randomness.
        fast: a GPU may decode in half precision.
    """

    prompts: list[str]
    negatives: list[str]
    pixels: Tensor | None
    region: Tensor | None
    width: int
    height: int
    settings: SamplingSettings
    start: int
    whole_region: bool
    strength: float
    seeds: list[int]
    seeding: str
    batch: int
    draws: Draws
    keep_original: bool
    fast: bool = False

    def picture_settings(self, index: int) -> dict[str, Any]:
        """The settings of one picture, as `generate` takes them."""
        return {
            "prompt": self.prompts[index % len(self.prompts)],
            "negative_prompt": self.negatives[index % len(self.negatives)],
            "strength": self.strength,
            "seed": self.seeds[index % len(self.seeds)],
            "seeding": self.seeding,
            "width": self.width,
            "height": self.height,
            "keep_original": self.keep_original,
            **asdict(self.settings),
        }

    def restored(self, images: Tensor, factor: int) -> Tensor:
        """`images` [B,H,W,3] on the CPU, with the pixels of the picture they began with outside of the region."""
        if self.region is None or not self.keep_original:
            return images
        original, region = (inputs.rows(part.cpu(), self.batch) for part in (self.pixels, self.region))
        return composite(original.clamp(0, 1), images, cells_to_mask(region, factor))

    @property
    def group(self) -> Hashable:
        """Equal for requests that `join_requests` can join: all but prompts, pictures and seeds is the same."""
        given = (self.pixels is None, self.region is None, self.whole_region, self.keep_original, self.fast)
        return (self.width, self.height, self.settings, self.start, self.strength, self.seeding, *given)


def resolve(
    checkpoint: Checkpoint,
    *,
    prompt: Any,
    negative_prompt: Any = "",
    image: Any = None,
    mask: Any = None,
    strength: float | None = None,
    seed: int | Sequence[int] = 0,
    seeding: str = "per_image",
    batch_size: int = 1,
    width: int | None = None,
    height: int | None = None,
    keep_original: bool = True,
    fast: bool = False,
    int8_pays: bool = True,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Request:
    """Checks the arguments of `AmusedModel.generate` and fills in what the checkpoint recommends.

    Raises:
        AmusedError: a value out of range, or sizes that do not fit together.
    """
    best = checkpoint.recommended
    prompts, negatives = inputs.texts(prompt, "prompt"), inputs.texts(negative_prompt, "negative_prompt")
    start, region = _pictures(image, mask, width, height, checkpoint.factor)
    seeds = inputs.seeds(seed)
    counts = {"prompt": len(prompts), "negative_prompt": len(negatives), "seed": len(seeds)}
    counts["image"] = 1 if start is None else len(start)
    counts["mask"] = 1 if region is None else len(region)
    batch = inputs.batch_size(counts, batch_size)
    seeds = _seeds(seeds, seeding, batch)
    if start is not None:
        height, width = start.shape[1:3]
    resolved = resolve_settings(
        best,
        settings,
        checkpoint.transformer_config.codebook_size,
        masked=region is not None,
        fast=inputs.flag(fast, "fast"),
        int8_pays=int8_pays,
    )
    if strength is None:
        strength = 0.5 if start is not None and region is None else 1.0
    strength = inputs.number(strength, "strength", 0, 1)
    return Request(
        prompts=prompts,
        negatives=negatives,
        pixels=start,
        region=region,
        width=inputs.side(best.width if width is None else width, "width", checkpoint.factor),
        height=inputs.side(best.height if height is None else height, "height", checkpoint.factor),
        settings=resolved,
        start=0 if start is None else start_step(resolved.steps, strength),
        whole_region=seeding == "diffusers" and region is not None,
        strength=strength,
        seeds=seeds,
        seeding=seeding,
        batch=batch,
        draws=SharedDraws(seeded(seeds[0])) if seeding == "diffusers" else PerImageDraws(seeds),
        keep_original=inputs.flag(keep_original, "keep_original"),
        fast=fast,
    )


def join_requests(requests: Sequence[Request]) -> Request:
    """One request for the pictures of several single ones of the same `group`, with a seed for each picture."""
    first = requests[0]
    seeds = [request.seeds[0] for request in requests]
    return replace(
        first,
        prompts=[request.prompts[0] for request in requests],
        negatives=[request.negatives[0] for request in requests],
        pixels=None if first.pixels is None else torch.cat([request.pixels for request in requests]),
        region=None if first.region is None else torch.cat([request.region for request in requests]),
        seeds=seeds,
        batch=len(requests),
        draws=PerImageDraws(seeds),
    )


def warn_of_size(request: Request, recommended: Recommended) -> None:
    """Logs a warning where the pictures are more than 16 times as large as `recommended`."""
    times = request.width * request.height / (recommended.width * recommended.height)
    if times > LARGE:
        logger.warning(
            "%dx%d pixels are %d times the recommended %dx%d; this takes long and needs much memory.",
            request.width, request.height, times, recommended.width, recommended.height,
        )  # fmt: skip


def _pictures(
    image: Any, mask: Any, width: int | None, height: int | None, factor: int
) -> tuple[Tensor | None, Tensor | None]:
    """Pixels and region, each None where not given."""
    if image is None:
        if mask is not None:
            raise AmusedError("A mask was given without an image; allowed are both, or an image alone.")
        return None, None
    batch = pixels.images(image, factor)
    own = (batch.shape[1], batch.shape[2])
    for name, asked, size in (("width", width, own[1]), ("height", height, own[0])):
        if asked is not None and inputs.side(asked, name, factor) != size:
            raise AmusedError(f"{name} is {asked} but the image's is {size}; with an image leave {name} out.")
    return batch, None if mask is None else pixels.masks(mask, own, factor)


def _seeds(seeds: list[int], seeding: str, batch: int) -> list[int]:
    """One seed per picture, or the one of the whole batch."""
    if inputs.choice(seeding, "seeding", SEEDINGS) == "diffusers":
        if len(seeds) > 1:
            raise AmusedError(f"seeding 'diffusers' takes one seed for the batch, not {len(seeds)}.")
        return seeds
    return seeds if len(seeds) > 1 else [(seeds[0] + i) % 2**64 for i in range(batch)]
