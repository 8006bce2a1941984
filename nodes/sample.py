"""Sampling."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host import sampling, scheduler

MAX_SEED = 0xFFFFFFFFFFFFFFFF
TEMPERATURE = {"min": 0.0, "max": 100.0, "step": 0.1}
SCHEDULES = ["auto", "cosine", "linear"]
SEEDINGS = ["per_image", "diffusers"]
CFG_SCHEDULES = ["auto", "constant", "ramp"]
SAMPLING_TEMPERATURE = {"default": 1.0, "min": 0.01, "max": 10.0, "step": 0.05, "round": 0.01}
TOP_K = {"default": 0, "min": 0, "max": 65536}
TOP_P = {"default": 1.0, "min": 0.01, "max": 1.0, "step": 0.01}
START_TIP = "Chance in which tokens are kept, at the first step: high is varied, 0 always keeps the surest ones."
END_TIP = "Chance in which tokens are kept, at the last step; falls evenly from the first."
SEEDING_TIP = (
    "per_image: a picture is the same alone and in any batch. diffusers: one random stream for the batch, the same "
    "tokens as diffusers' AmusedPipeline."
)
STEPS_TIP = "Steps of the whole schedule; a denoise of 0.5 runs the last half of them. 12 is what aMUSEd was made for."
DENOISE_TIP = (
    "How much is drawn anew: 1 everything (or everything under the mask), 0.5 keeps the rough picture, 0 nothing."
)
SAMPLING_TEMPERATURE_TIP = "Chance in what each token becomes: below 1 plainer and surer, above 1 wilder."
TOP_K_TIP = "Each token becomes one of this many likeliest; 0: one of all."
TOP_P_TIP = "Each token becomes one of the likeliest that together reach this probability; 1: one of all."


class AmusedSampler(io.ComfyNode):
    """A whole run in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedSampler",
            display_name="aMUSEd sampler",
            category="aMUSEd",
            description="Fills in the masked tokens of a latent step by step, the surest first. The same settings give "
            "the same tokens as 'amused generate' on the command line.",
            inputs=sampler_inputs(),
            outputs=[io.Latent.Output(tooltip="The latent with all tokens decided.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        schedule: str,
        positive: Any,
        negative: Any,
        latent_image: Any,
        denoise: float,
        temperature_start: float,
        temperature_end: float,
        seeding: str,
        sampling_temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        cfg_schedule: str = "auto",
    ) -> io.NodeOutput:
        """Samples the latent."""
        result = sampling.sample_latent(
            model,
            latent_image,
            positive,
            negative,
            seed=seed,
            steps=steps,
            cfg=cfg,
            schedule=schedule,
            denoise=denoise,
            temperature=(temperature_start, temperature_end),
            seeding=seeding,
            sampling_temperature=sampling_temperature,
            top_k=top_k,
            top_p=top_p,
            cfg_schedule=cfg_schedule,
        )
        return io.NodeOutput(result)


class AmusedSamplerSelect(io.ComfyNode):
    """The sampler for custom sampling."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedSamplerSelect",
            display_name="aMUSEd sampler select",
            category="aMUSEd",
            description="The aMUSEd sampler for the stock custom sampling nodes.",
            inputs=[
                io.Float.Input("temperature_start", default=2.0, **TEMPERATURE, tooltip=START_TIP),
                io.Float.Input("temperature_end", default=0.0, **TEMPERATURE, tooltip=END_TIP),
                io.Combo.Input("seeding", options=SEEDINGS, default="per_image", tooltip=SEEDING_TIP),
                *_draw_inputs(),
            ],
            outputs=[io.Sampler.Output(tooltip="For 'SamplerCustom' and 'SamplerCustomAdvanced'.")],
        )

    @classmethod
    def execute(
        cls,
        temperature_start: float,
        temperature_end: float,
        seeding: str,
        sampling_temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> io.NodeOutput:
        """Makes the sampler."""
        temperature, more = (temperature_start, temperature_end), {"top_k": top_k, "top_p": top_p}
        sampler = sampling.amused_sampler(temperature, seeding, sampling_temperature=sampling_temperature, **more)
        return io.NodeOutput(sampler)


class AmusedScheduler(io.ComfyNode):
    """The mask ratios for custom sampling."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedScheduler",
            display_name="aMUSEd scheduler",
            category="aMUSEd",
            description="Mask ratios for the stock custom sampling nodes: the share of tokens still masked.",
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of 'Load aMUSEd'."),
                io.Combo.Input(
                    "schedule",
                    options=SCHEDULES,
                    default="auto",
                    tooltip="cosine: few tokens at first; linear: as many in each step, best under a mask. auto: the "
                    "model's own.",
                ),
                io.Int.Input("steps", default=12, min=1, max=1000, tooltip=STEPS_TIP),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=DENOISE_TIP),
            ],
            outputs=[io.Sigmas.Output(tooltip="Mask ratios, falling to 0.")],
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
            tooltip="Start of all chance. Picture i of a batch has seed + i (with 'per_image' seeding).",
        ),
        io.Int.Input("steps", default=12, min=1, max=1000, tooltip=STEPS_TIP),
        io.Float.Input(
            "cfg",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="Guidance: how closely the picture follows the prompt. 0: the model's own recommendation "
            "(amused-256 4, amused-512 10, the embedded model about 1.5); 1: none.",
        ),
        io.Combo.Input(
            "schedule",
            options=SCHEDULES,
            default="auto",
            tooltip="How fast tokens are decided. cosine: few at first; linear: as many in each step. auto: "
            "linear under a mask, else the model's own.",
        ),
        io.Conditioning.Input("positive", tooltip="What the picture shows."),
        io.Conditioning.Input("negative", tooltip="What to keep out of it."),
        io.Latent.Input(
            "latent_image",
            tooltip="Empty for a new picture; encoded to change one; with a mask to draw only there.",
        ),
        io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=DENOISE_TIP),
        io.Float.Input("temperature_start", default=2.0, **TEMPERATURE, tooltip=START_TIP),
        io.Float.Input("temperature_end", default=0.0, **TEMPERATURE, tooltip=END_TIP),
        io.Combo.Input("seeding", options=SEEDINGS, default="per_image", tooltip=SEEDING_TIP),
        *_draw_inputs(),
        io.Combo.Input(
            "cfg_schedule",
            options=CFG_SCHEDULES,
            default="auto",
            optional=True,
            tooltip="constant: the same guidance in every step; ramp: none at first, rising evenly to cfg. "
            "auto: the model's own.",
        ),
    ]


def _draw_inputs() -> list[Any]:
    """Widgets of how codes are drawn; graphs saved without them keep the defaults."""
    return [
        io.Float.Input("sampling_temperature", optional=True, tooltip=SAMPLING_TEMPERATURE_TIP, **SAMPLING_TEMPERATURE),
        io.Int.Input("top_k", optional=True, tooltip=TOP_K_TIP, **TOP_K),
        io.Float.Input("top_p", optional=True, tooltip=TOP_P_TIP, **TOP_P),
    ]
