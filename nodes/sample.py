"""Sampling."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.sample import sampler, scheduler
from .settings import DRAW, LATER, settings_of, widgets

MAX_SEED = 0xFFFFFFFFFFFFFFFF
SEEDINGS = ["per_image", "diffusers"]
SEEDING_TIP = (
    "per_image: each image has its own seed and is the same alone or in any batch. diffusers: "
    "one random stream for the whole batch, which gives the tokens of diffusers' "
    "AmusedPipeline."
)
DENOISE_TIP = (
    "How much to regenerate: 1 everything (with a mask, everything inside it), 0.5 keeps the rough layout, 0 nothing."
)


class AmusedSampler(io.ComfyNode):
    """A whole run in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedSampler",
            display_name="aMUSEd sampler",
            category="aMUSEd",
            description="Predicts the masked tokens of a latent step by step, the most confident first. The same "
            "settings give the same tokens as 'amused generate' on the command line.",
            inputs=sampler_inputs(),
            outputs=[io.Latent.Output(tooltip="The latent with no masked tokens left.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        seed: int,
        positive: Any,
        negative: Any,
        latent_image: Any,
        denoise: float,
        seeding: str,
        **settings: Any,
    ) -> io.NodeOutput:
        """Samples the latent."""
        run = {"seed": seed, "denoise": denoise, "seeding": seeding, "settings": settings_of(settings)}
        return io.NodeOutput(sampler.sample_latent(model, latent_image, positive, negative, **run))


class AmusedSamplerSelect(io.ComfyNode):
    """The sampler for custom sampling."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedSamplerSelect",
            display_name="aMUSEd sampler select",
            category="aMUSEd",
            description="The aMUSEd sampler as a SAMPLER for the stock custom sampling nodes.",
            inputs=[
                *widgets("temperature"),
                io.Combo.Input("seeding", options=SEEDINGS, default="per_image", tooltip=SEEDING_TIP),
                *widgets(*DRAW, *LATER, optional=True),
            ],
            outputs=[io.Sampler.Output(tooltip="For 'SamplerCustom' and 'SamplerCustomAdvanced'.")],
        )

    @classmethod
    def execute(cls, seeding: str, **settings: Any) -> io.NodeOutput:
        """Makes the sampler."""
        return io.NodeOutput(sampler.amused_sampler(seeding=seeding, **settings_of(settings)))


class AmusedScheduler(io.ComfyNode):
    """The mask ratios for custom sampling."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedScheduler",
            display_name="aMUSEd scheduler",
            category="aMUSEd",
            description="Mask ratios, the fraction of tokens still masked, for the stock custom sampling nodes.",
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of 'Load aMUSEd'."),
                *widgets("schedule", "steps"),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=DENOISE_TIP),
            ],
            outputs=[io.Sigmas.Output(tooltip="Mask ratios, decreasing to 0.")],
        )

    @classmethod
    def execute(cls, model: Any, schedule: str, steps: int, denoise: float) -> io.NodeOutput:
        """Makes the mask ratios."""
        return io.NodeOutput(scheduler.amused_sigmas(model, schedule, steps, denoise))


def sampler_inputs() -> list[Any]:
    """Inputs of a node that does a whole run."""
    return [
        io.Model.Input("model", tooltip="The MODEL of 'Load aMUSEd'."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            control_after_generate=True,
            tooltip="The random seed. Image i of a batch uses seed + i (with 'per_image' seeding).",
        ),
        *widgets("steps", "cfg", "schedule"),
        io.Conditioning.Input("positive", tooltip="The encoded positive prompt."),
        io.Conditioning.Input("negative", tooltip="The encoded negative prompt."),
        io.Latent.Input(
            "latent_image",
            tooltip="Empty for a new image, encoded for image-to-image, with a mask for inpainting.",
        ),
        io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=DENOISE_TIP),
        *widgets("temperature"),
        io.Combo.Input("seeding", options=SEEDINGS, default="per_image", tooltip=SEEDING_TIP),
        *widgets(*DRAW, "cfg_schedule", "cfg_interval", *LATER, optional=True),
    ]
