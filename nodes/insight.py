"""Seeing inside a run."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..amused_core import insight as core
from .host import insight
from .sample import sampler_inputs
from .settings import settings_of

Trace = io.Custom("AMUSED_TRACE")
TRACE_TIP = "The run to look into, from 'aMUSEd trace'."
VAE_TIP = "The VAE of 'Load aMUSEd'."
LEGEND_TIP = "Adds a strip below the picture that says what the colours mean."
OPACITY = {"default": 0.7, "min": 0.0, "max": 1.0, "step": 0.05}
OPACITY_TIP = "How much the colours cover of the picture, which is shown grey below them. 1: the colours alone."
PICTURES_TIP = "A picture for each one of the run, at least 512 pixels large."


class AmusedTrace(io.ComfyNode):
    """A whole run that is recorded."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedTrace",
            display_name="aMUSEd trace",
            category="aMUSEd/insight",
            description="Draws exactly what 'aMUSEd sampler' draws with these settings, and records every step for "
            "the nodes that show it.",
            inputs=sampler_inputs(),
            outputs=[
                io.Latent.Output(tooltip="The latent with all tokens decided."),
                Trace.Output(display_name="trace", tooltip="The record of the run, for the nodes that show it."),
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
            description="Shows in colours when each token of a run was decided, how likely it was, or how open the "
            "choice was.",
            inputs=[
                Trace.Input("trace", tooltip=TRACE_TIP),
                io.Vae.Input("vae", tooltip=VAE_TIP),
                io.Combo.Input(
                    "kind",
                    options=list(core.KINDS),
                    default="order",
                    tooltip="order: the step that decided the token; confidence: how likely the model found it; "
                    "entropy: how open the choice was, in bits.",
                ),
                io.Int.Input(
                    "step",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="0: each token in the step that decided it; otherwise all tokens in this step. Of no "
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
            description="Shows in colours which parts of the picture looked at a word of the prompt while it was "
            "drawn.",
            inputs=[
                Trace.Input("trace", tooltip=TRACE_TIP),
                io.Vae.Input("vae", tooltip=VAE_TIP),
                io.String.Input(
                    "word",
                    default="",
                    tooltip="A word of the positive prompt, or several that stand together. Case does not count.",
                ),
                io.Int.Input(
                    "step", default=0, min=0, max=1000, tooltip="0: the mean over the run; otherwise only this step."
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
            description="The picture after every step of a run, as a batch: 'SaveAnimatedWEBP' makes a film of it.",
            inputs=[
                Trace.Input("trace", tooltip=TRACE_TIP),
                io.Vae.Input("vae", tooltip=VAE_TIP),
                io.Combo.Input(
                    "undecided",
                    options=list(core.UNDECIDED_LOOKS),
                    default="guess",
                    tooltip="How tokens look that are not decided yet. guess: what the step guessed, under grey "
                    "squares; hidden: grey squares only.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    tooltip="One frame for each step; with a batch, all frames of the first picture, then of the next."
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
            description="Draws the borders between the tokens over a picture, and their numbers if wanted.",
            inputs=[
                io.Latent.Input("samples", tooltip="The tokens."),
                io.Image.Input("image", tooltip="The picture that these tokens were decoded to."),
                io.Boolean.Input("ids", default=False, tooltip="Also writes the number of each token, from 0."),
            ],
            outputs=[io.Image.Output(tooltip="The picture with the grid, at least 512 pixels large.")],
        )

    @classmethod
    def execute(cls, samples: Any, image: Any, ids: bool) -> io.NodeOutput:
        """Draws the grid."""
        return io.NodeOutput(insight.token_grid(samples, image, ids))
