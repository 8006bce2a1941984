"""`amused bench --device`: seconds and memory of an image on one device, beside diffusers eager and compiled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checkpoint import Checkpoint
from ..model import AmusedModel
from ..model.loading import build_text, build_transformer, build_vq
from ..model.reference import DIFFUSERS_SETTINGS, diffusers_pipeline
from ..networks.attention import choose_attention
from .weights import shared_checkpoint

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WARM_UPS = 2
_PROMPT, _NEGATIVE = "a red apple on a blue background", "blurred and noisy"

Draw = Callable[[int], Tensor]


@dataclass(frozen=True)
class DevicePlan:
    """What to measure on a device; the names are those of the options.

    Attributes:
        device: "cuda", "mps" or "cpu".
        model, shapes: a checkpoint, or random weights of the shapes "256" and "512".
        dtypes: names from `DTYPES`.
        batches: images at a time.
        steps, repeats: of an image, and how often it is timed.
        compiled: measure both sides with `torch.compile`, too.
    """

    device: str
    model: str | None
    shapes: Sequence[str]
    dtypes: Sequence[str]
    batches: Sequence[int]
    steps: int
    repeats: int
    compiled: bool = True


class Timing(NamedTuple):
    """Seconds of each timed run, bytes that a run added at most (None: not known), and the tokens of the first."""

    seconds: list[float]
    memory: int | None
    tokens: Tensor


def device_rows(plan: DevicePlan) -> Iterator[dict[str, str]]:
    """One row of the table for each shape, dtype, batch and side, as soon as it is measured."""
    for shape in plan.shapes or (None,):
        for dtype in plan.dtypes:
            checkpoint = shared_checkpoint(plan.model, shape, 0, DTYPES[dtype])
            for batch in plan.batches:
                timings = {}
                for name, draw in _sides(plan, checkpoint, DTYPES[dtype], batch):
                    timings[name] = timed(draw, plan.device, plan.repeats)
                    where = {"size": str(checkpoint.recommended.width), "dtype": dtype, "batch": str(batch)}
                    yield {**where, "side": name, **_row(timings, name, batch)}


def device_name(device: str) -> str:
    """The card's name."""
    return torch.cuda.get_device_name() if device == "cuda" else device


@torch.no_grad()
def timed(draw: Draw, device: str, repeats: int) -> Timing:
    """Times `draw(seed)` after warm-up runs, each run by itself; on CUDA by events, with the peak of its allocator."""
    for seed in range(WARM_UPS):
        draw(seed)
    tokens, seconds, memory = None, [], None
    for seed in range(repeats):
        with _Clock(device) as clock:
            drawn = draw(seed)
        tokens = drawn.cpu() if tokens is None else tokens
        seconds.append(clock.seconds)
        memory = clock.memory if memory is None else max(memory, clock.memory or 0)
    return Timing(seconds, memory, tokens)


class _Clock:
    """Seconds and bytes of what runs within it.

    Attributes:
        seconds: from CUDA events, or the clock on the wall where there are none.
        memory: bytes of the device's allocator beyond those before, at most; None off CUDA.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self.seconds, self.memory = 0.0, None

    def __enter__(self) -> _Clock:
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self._events[0].record()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self._began
        if self._cuda:
            self._events[1].record()
            torch.cuda.synchronize()
            self.seconds = self._events[0].elapsed_time(self._events[1]) / 1000
            self.memory = torch.cuda.max_memory_allocated() - self._before


def _sides(plan: DevicePlan, checkpoint: Checkpoint, dtype: torch.dtype, batch: int) -> Iterator[tuple[str, Draw]]:
    """The sides by name, diffusers first; one model of each kind is in memory at a time."""
    yield from _diffusers_sides(plan, checkpoint, dtype, batch)
    best, model = checkpoint.recommended, _model(checkpoint, dtype, plan.device)
    common = {"negative_prompt": _NEGATIVE, "batch_size": batch, "width": best.width, "height": best.height}
    common |= {"cfg": best.cfg, "temperature": best.temperature, "schedule": best.schedule}
    common |= {**DIFFUSERS_SETTINGS, "reuse": False}
    exact = {"steps": plan.steps, "seeding": "diffusers", "cfg_schedule": "constant"}
    yield "pack", lambda seed: model.generate(_PROMPT, seed=seed, **common, **exact).tokens
    yield "pack, fast", lambda seed: model.generate(_PROMPT, seed=seed, **common, fast=True).tokens
    if plan.compiled:
        yield "pack, compiled", lambda seed: model.generate(_PROMPT, seed=seed, **common, **exact, compile=True).tokens


def _diffusers_sides(
    plan: DevicePlan, checkpoint: Checkpoint, dtype: torch.dtype, batch: int
) -> Iterator[tuple[str, Draw]]:
    best, pipe = checkpoint.recommended, diffusers_pipeline(checkpoint, dtype).to(plan.device)

    def draw(seed: int) -> Tensor:
        tokens: list[Tensor] = []
        pipe(
            _PROMPT,
            negative_prompt=_NEGATIVE,
            num_inference_steps=plan.steps,
            guidance_scale=best.cfg,
            temperature=best.temperature,
            num_images_per_prompt=batch,
            width=best.width,
            height=best.height,
            generator=torch.Generator().manual_seed(seed),
            callback=lambda index, timestep, latents: tokens.append(latents),
            output_type="pt",
        )
        return tokens[-1]

    yield "diffusers", draw
    if plan.compiled:
        pipe.transformer = torch.compile(pipe.transformer, mode="reduce-overhead" if plan.device == "cuda" else None)
        yield "diffusers, compiled", draw


def _model(checkpoint: Checkpoint, dtype: torch.dtype, device: str) -> AmusedModel:
    attend = choose_attention("auto", device)
    return AmusedModel(
        checkpoint,
        build_transformer(checkpoint, dtype, device, attend=attend),
        build_text(checkpoint, dtype, device),
        build_vq(checkpoint, device),
    )


def _row(timings: dict[str, Timing], name: str, batch: int) -> dict[str, str]:
    timing, reference = timings[name], timings["diffusers"]
    middle = median(timing.seconds)
    same = (timing.tokens.flatten() == reference.tokens.flatten()).float().mean().item()
    return {
        "seconds (least to most)": f"{middle:.4f} ({min(timing.seconds):.4f} to {max(timing.seconds):.4f})",
        "images/s": f"{batch / middle:.2f}",
        "diffusers / this": f"{median(reference.seconds) / middle:.2f}x",
        "memory, MB": "" if timing.memory is None else f"{timing.memory / 1e6:.0f}",
        "equal tokens": "" if "fast" in name else f"{same:.1%}",
    }
