"""Seeing inside a run."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..amused_core import insight as core
from .host import insight
from .sample import sampler_inputs
from .settings import settings_of

Trace = io.Custom("AMUSED_TRACE")
TRACE_TIP = "The recorded run, from 'aMUSEd trace'."
VAE_TIP = "The VAE of 'Load aMUSEd'."
LEGEND_TIP = "Adds a strip below the image that explains the colours."
OPACITY = {"default": 0.7, "min": 0.0, "max": 1.0, "step": 0.05}
OPACITY_TIP = "Opacity of the colours over the image, which is shown in grey. 1: the colours alone."
PICTURES_TIP = "One map for each image of the run, enlarged to at least 512 pixels."


class AmusedTrace(io.ComfyNode):
    """A whole run that is recorded."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedTrace",
            display_name="aMUSEd trace",
            category="aMUSEd/insight",
            description="Generates exactly what 'aMUSEd sampler' generates with these settings, and records every "
            "step for the nodes that visualize it.",
            inputs=sampler_inputs(),
            outputs=[
                io.Latent.Output(tooltip="The latent with no masked tokens left."),
                Trace.Output(display_name="trace", tooltip="The record of the run, for the nodes that visualize it."),
            ],
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
        """Samples the latent and records the run."""
        run = {"seed": seed, "denoise": denoise, "seeding": seeding, "settings": settings_of(settings)}
        return io.NodeOutput(*insight.sample(model, latent_image, positive, negative, **run))


class AmusedTraceMap(io.ComfyNode):
    """When and how surely each token was decided."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedTraceMap",
            display_name="aMUSEd trace map",
            category="aMUSEd/insight",
            description="Shows in colours at which step each token of a run was unmasked, how probable it was, or "
            "how uncertain the model was.",
            inputs=[
                Trace.Input("trace", tooltip=TRACE_TIP),
                io.Vae.Input("vae", tooltip=VAE_TIP),
                io.Combo.Input(
                    "kind",
                    options=list(core.KINDS),
                    default="order",
                    tooltip="order: the step that unmasked the token; confidence: the probability of its code; "
                    "entropy: the model's uncertainty, in bits.",
                ),
                io.Int.Input(
                    "step",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="0: each token at the step that unmasked it; otherwise all tokens at this step. Has no "
                    "effect on the order.",
                ),
                io.Float.Input("opacity", **OPACITY, tooltip=OPACITY_TIP),
                io.Boolean.Input("legend", default=True, tooltip=LEGEND_TIP),
            ],
            outputs=[io.Image.Output(tooltip=PICTURES_TIP)],
        )

    @classmethod
    def execute(cls, trace: Any, vae: Any, kind: str, step: int, opacity: float, legend: bool) -> io.NodeOutput:
        """Draws the map."""
        return io.NodeOutput(insight.picture(trace, vae, core.read_trace(trace, kind, step), opacity, legend))


class AmusedWordAttention(io.ComfyNode):
    """Where a word of the prompt is looked at."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedWordAttention",
            display_name="aMUSEd word attention",
            category="aMUSEd/insight",
            description="Shows in colours how much attention each part of the image paid to a word of the prompt.",
            inputs=[
                Trace.Input("trace", tooltip=TRACE_TIP),
                io.Vae.Input("vae", tooltip=VAE_TIP),
                io.String.Input(
                    "word",
                    default="",
                    tooltip="A word of the positive prompt, or several consecutive words. Case is ignored.",
                ),
                io.Int.Input(
                    "step", default=0, min=0, max=1000, tooltip="0: the mean over the run; otherwise this step only."
                ),
                io.Float.Input("opacity", **OPACITY, tooltip=OPACITY_TIP),
                io.Boolean.Input("legend", default=True, tooltip=LEGEND_TIP),
            ],
            outputs=[io.Image.Output(tooltip=PICTURES_TIP)],
        )

    @classmethod
    def execute(cls, trace: Any, vae: Any, word: str, step: int, opacity: float, legend: bool) -> io.NodeOutput:
        """Draws the map."""
        return io.NodeOutput(insight.picture(trace, vae, core.read_word(trace, word, step), opacity, legend))


class AmusedTraceFrames(io.ComfyNode):
    """The picture after every step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedTraceFrames",
            display_name="aMUSEd trace frames",
            category="aMUSEd/insight",
            description="The image after every step of a run, as a batch; 'SaveAnimatedWEBP' turns it into an "
            "animation.",
            inputs=[
                Trace.Input("trace", tooltip=TRACE_TIP),
                io.Vae.Input("vae", tooltip=VAE_TIP),
                io.Combo.Input(
                    "undecided",
                    options=list(core.UNDECIDED_LOOKS),
                    default="guess",
                    tooltip="How to show tokens that are still masked. guess: the prediction of the step, under grey "
                    "squares; hidden: grey squares only.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    tooltip="One frame per step; for a batch, all frames of the first image, then those of the next."
                )
            ],
        )

    @classmethod
    def execute(cls, trace: Any, vae: Any, undecided: str) -> io.NodeOutput:
        """Decodes the frames."""
        return io.NodeOutput(insight.frames(trace, vae, undecided))


class AmusedTokenGrid(io.ComfyNode):
    """The tokens behind a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedTokenGrid",
            display_name="aMUSEd token grid",
            category="aMUSEd/insight",
            description="Draws the borders between tokens over an image and, optionally, their ids.",
            inputs=[
                io.Latent.Input("samples", tooltip="The tokens."),
                io.Image.Input("image", tooltip="The image that these tokens decode to."),
                io.Boolean.Input("ids", default=False, tooltip="Also writes the id of each token, counted from 0."),
            ],
            outputs=[io.Image.Output(tooltip="The image with the grid, enlarged to at least 512 pixels.")],
        )

    @classmethod
    def execute(cls, samples: Any, image: Any, ids: bool) -> io.NodeOutput:
        """Draws the grid."""
        return io.NodeOutput(insight.token_grid(samples, image, ids))
