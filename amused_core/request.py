"""A request to generate, with every default filled in and every input checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from . import inputs
from .checkpoint import Checkpoint
from .errors import AmusedError
from .images import pixels
from .sampling.guidance import check_cfg_schedule
from .sampling.randomness import SEEDINGS, Draws, PerImageDraws, SharedDraws, seeded
from .sampling.schedule import MAX_STEPS, check_schedule, start_step

# `fast`: fewer steps, and guidance only while the picture's layout is decided; measured in docs/speed.md.
FAST_STEPS, FAST_INTERVAL = 8, (0.0, 0.5)


@dataclass(frozen=True)
class Request:
    """What one run does.

    Attributes:
        prompts, negatives: one string, or one per picture.
        pixels: float [n,H,W,3] to start from, or None.
        region: bool cells [m,h,w] to draw anew, or None.
        width, height: pixels.
        steps: of the whole schedule.
        first: steps left out at its beginning.
        cfg, temperature, schedule, cfg_schedule, cfg_interval, sampling_temperature, top_k, top_p, int8, cfg_every:
            as in `AmusedModel.generate`, defaults filled in.
        whole_region: the region starts fully masked even when steps are left out (diffusers' inpainting).
        strength, seeds, seeding: as in `AmusedModel.generate`; one seed, or one per picture.
        batch: number of pictures.
        draws: their randomness.
    """

    prompts: list[str]
    negatives: list[str]
    pixels: Tensor | None
    region: Tensor | None
    width: int
    height: int
    steps: int
    first: int
    cfg: float
    temperature: tuple[float, float]
    schedule: str
    cfg_schedule: str
    cfg_interval: tuple[float, float]
    sampling_temperature: float
    top_k: int
    top_p: float
    int8: bool
    cfg_every: int
    whole_region: bool
    strength: float
    seeds: list[int]
    seeding: str
    batch: int
    draws: Draws

    def settings(self, index: int) -> dict[str, Any]:
        """The settings of one picture, as `generate` takes them."""
        return {
            "prompt": self.prompts[index % len(self.prompts)],
            "negative_prompt": self.negatives[index % len(self.negatives)],
            "strength": self.strength,
            "steps": self.steps,
            "cfg": self.cfg,
            "temperature": self.temperature,
            "schedule": self.schedule,
            "seed": self.seeds[index % len(self.seeds)],
            "seeding": self.seeding,
            "width": self.width,
            "height": self.height,
            "cfg_schedule": self.cfg_schedule,
            "cfg_interval": self.cfg_interval,
            "sampling_temperature": self.sampling_temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "int8": self.int8,
            "cfg_every": self.cfg_every,
        }


def resolve(
    checkpoint: Checkpoint,
    *,
    prompt: Any,
    negative_prompt: Any,
    image: Any,
    mask: Any,
    strength: float | None,
    steps: int | None,
    cfg: float | None,
    temperature: Any,
    schedule: str | None,
    seed: int | Sequence[int],
    seeding: str,
    batch_size: int,
    width: int | None,
    height: int | None,
    cfg_schedule: str | None,
    cfg_interval: Sequence[float] | None,
    sampling_temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    fast: bool = False,
    int8: bool | None = None,
    cfg_every: int | None = None,
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
    if schedule is None:
        # diffusers' inpainting always falls linearly, whatever the checkpoint's scheduler says.
        schedule = best.schedule if region is None else "linear"
    check_schedule(schedule)
    if inputs.flag(fast, "fast"):
        steps = FAST_STEPS if steps is None else steps
        if cfg_schedule is None and cfg_interval is None:
            cfg_schedule, cfg_interval = "interval", FAST_INTERVAL
    if cfg_schedule is None:
        cfg_schedule = best.cfg_schedule if cfg_interval is None else "interval"
    check_cfg_schedule(cfg_schedule)
    if strength is None:
        strength = 0.5 if start is not None and region is None else 1.0
    strength = inputs.number(strength, "strength", 0, 1)
    count = inputs.steps(best.steps if steps is None else steps)
    return Request(
        prompts=prompts,
        negatives=negatives,
        pixels=start,
        region=region,
        width=inputs.side(best.width if width is None else width, "width", checkpoint.factor),
        height=inputs.side(best.height if height is None else height, "height", checkpoint.factor),
        steps=count,
        first=0 if start is None else start_step(count, strength),
        cfg=inputs.number(best.cfg if cfg is None else cfg, "cfg", 0, inputs.MAX_CFG),
        temperature=inputs.temperature(best.temperature if temperature is None else temperature),
        schedule=schedule,
        cfg_schedule=cfg_schedule,
        cfg_interval=inputs.cfg_interval(best.cfg_interval if cfg_interval is None else cfg_interval),
        sampling_temperature=inputs.sampling_temperature(
            best.sampling_temperature if sampling_temperature is None else sampling_temperature
        ),
        top_k=inputs.top_k(best.top_k if top_k is None else top_k, checkpoint.uvit_config.codebook_size),
        top_p=inputs.top_p(best.top_p if top_p is None else top_p),
        int8=inputs.flag(fast if int8 is None else int8, "int8"),
        cfg_every=inputs.whole(1 if cfg_every is None else cfg_every, "cfg_every", 1, MAX_STEPS),
        whole_region=seeding == "diffusers" and region is not None,
        strength=strength,
        seeds=seeds,
        seeding=seeding,
        batch=batch,
        draws=SharedDraws(seeded(seeds[0])) if seeding == "diffusers" else PerImageDraws(seeds),
    )


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
        if asked is not None and asked != size:
            raise AmusedError(f"{name} is {asked} but the image's is {size}; with an image leave {name} out.")
    return batch, None if mask is None else pixels.masks(mask, own, factor)


def _seeds(seeds: list[int], seeding: str, batch: int) -> list[int]:
    """One seed per picture, or the one of the whole batch."""
    if seeding not in SEEDINGS:
        raise AmusedError(f"seeding is {seeding!r}; allowed are {', '.join(SEEDINGS)}.")
    if seeding == "diffusers":
        if len(seeds) > 1:
            raise AmusedError(f"seeding 'diffusers' takes one seed for the batch, not {len(seeds)}.")
        return seeds
    return seeds if len(seeds) > 1 else [(seeds[0] + i) % 2**64 for i in range(batch)]
