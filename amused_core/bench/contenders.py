"""The two contenders: this pack and diffusers' pipeline, each drawing the same pictures with a clock on its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checkpoint import Checkpoint
from ..model import AmusedModel
from ..model.loading import build_text, build_transformer, build_vq
from ..model.reference import DIFFUSERS_SETTINGS, diffusers_pipeline
from ..networks.attention import choose_attention
from ..sampling.loop import Predict
from .laps import Laps


@dataclass(frozen=True)
class Workload:
    """What both draw; the names are those of `AmusedModel.generate`."""

    prompt: str
    negative: str
    seed: int
    steps: int
    batch: int
    width: int
    height: int
    cfg: float
    temperature: tuple[float, float]


class Output(NamedTuple):
    """`tokens` int64 [B,h,w] and `pixels` float [B,H,W,3] in 0..1."""

    tokens: Tensor
    pixels: Tensor


class Pack:
    """This pack's `AmusedModel`, as `load_model` builds it."""

    name = "pack"

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, seeding: str, mode: str = "exact") -> None:
        attend = choose_attention("auto", torch.device("cpu"))
        self.model = AmusedModel(
            checkpoint,
            build_transformer(checkpoint, dtype, attend=attend),
            build_text(checkpoint, dtype),
            build_vq(checkpoint),
        )
        self._seeding = seeding
        self._mode = mode
        self._schedule = checkpoint.recommended.schedule

    def draw(self, workload: Workload, laps: Laps) -> Output:
        """Draws `workload`, its parts timed by `laps`."""
        model = self.model
        settings = {
            "cfg": workload.cfg,
            "temperature": workload.temperature,
            "schedule": self._schedule,
            **DIFFUSERS_SETTINGS,
        }
        if self._mode != "fast":
            settings |= {"steps": workload.steps, "cfg_schedule": "constant", "int8": self._mode == "int8"}
        with (
            laps.around(model.text, "encode", before="prepare", after="text"),
            laps.around(model.vq, "decode", before="sampler", after="decode"),
        ):
            request = model.request(
                prompt=workload.prompt,
                negative_prompt=workload.negative,
                seed=workload.seed,
                seeding=self._seeding,
                batch_size=workload.batch,
                width=workload.width,
                height=workload.height,
                fast=self._mode == "fast",
                settings=settings,
            )
            result = model.run(request, wrap_predict=lambda predict: _timed(predict, laps))
        laps.lap("rest")
        return Output(result.tokens, result.images)


class Diffusers:
    """diffusers' `AmusedPipeline` on the weights of `checkpoint`, all of it in `dtype` as it loads there."""

    name = "diffusers"

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
        self.pipe = diffusers_pipeline(checkpoint, dtype)

    def draw(self, workload: Workload, laps: Laps) -> Output:
        """Draws `workload`, its parts timed by `laps`; a step is one scheduler step to the next."""
        pipe, tokens = self.pipe, []
        with (
            laps.around(pipe.text_encoder, "forward", after="text"),
            laps.around(pipe.scheduler, "set_timesteps", before="prepare"),
            laps.around(pipe.scheduler, "step", before="step", after="sampler"),
            laps.around(pipe.vqvae, "decode", before="rest", after="decode"),
        ):
            pictures = pipe(
                workload.prompt,
                negative_prompt=workload.negative,
                num_inference_steps=workload.steps,
                guidance_scale=workload.cfg,
                temperature=workload.temperature,
                num_images_per_prompt=workload.batch,
                width=workload.width,
                height=workload.height,
                generator=torch.Generator().manual_seed(workload.seed),
                callback=lambda index, timestep, latents: tokens.append(latents),
                output_type="np",
            ).images
        laps.lap("rest")
        return Output(tokens[-1], torch.from_numpy(pictures))


class Contenders(NamedTuple):
    """Both, or one of them."""

    pack: Pack | None
    diffusers: Diffusers | None


def _timed(predict: Predict, laps: Laps) -> Predict:
    """Times what predicts the logits in each step: guidance and U-ViT."""
    laps.lap("prepare")

    def step(*arguments: Any) -> Tensor:
        laps.lap("sampler")
        logits = predict(*arguments)
        laps.lap("step")
        return logits

    return step
