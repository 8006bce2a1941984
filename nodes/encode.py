"""Prompts and micro-conditioning."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.text import conditioning as host

SIZE = {"default": 0, "min": 0, "max": 8192}
CROP = {"default": 0, "min": 0, "max": 8192}
SCORE = {"default": 6.0, "min": 0.0, "max": 10.0, "step": 0.1}
WIDTH_TIP = "Original image width in pixels that the prompt asks for. 0: the width of the generated image."
HEIGHT_TIP = "Original image height in pixels that the prompt asks for. 0: the height of the generated image."
TOP_TIP = "Crop offset from the top in pixels that the prompt asks for. Above 0 the image looks cropped."
LEFT_TIP = "Crop offset from the left in pixels that the prompt asks for. Above 0 the image looks cropped."
SCORE_TIP = "Aesthetic score that the prompt asks for, on the scale of the LAION aesthetic predictor."


class AmusedTextEncode(io.ComfyNode):
    """Both prompts in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedTextEncode",
            display_name="aMUSEd text encode",
            category="aMUSEd",
            description="Encodes the positive and the negative prompt, with aMUSEd's micro-conditioning.",
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of 'Load aMUSEd'."),
                io.String.Input(
                    "positive",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="What the image should show. (word:1.2) and embedding:name work as everywhere in ComfyUI.",
                ),
                io.String.Input(
                    "negative",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="What the image should not show; takes effect only if guidance (cfg) is above 1.",
                ),
                io.Int.Input("width", **SIZE, tooltip=WIDTH_TIP),
                io.Int.Input("height", **SIZE, tooltip=HEIGHT_TIP),
                io.Int.Input("crop_top", **CROP, tooltip=TOP_TIP),
                io.Int.Input("crop_left", **CROP, tooltip=LEFT_TIP),
                io.Float.Input("aesthetic_score", **SCORE, tooltip=SCORE_TIP),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="The encoded prompt, for a sampler's positive input."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="The encoded negative prompt, for a sampler's negative input."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        positive: str,
        negative: str,
        width: int,
        height: int,
        crop_top: int,
        crop_left: int,
        aesthetic_score: float,
    ) -> io.NodeOutput:
        """Encodes both prompts."""
        micro = (width, height, crop_top, crop_left, aesthetic_score)
        return io.NodeOutput(*(host.with_micro(host.encode(clip, text), micro) for text in (positive, negative)))


class AmusedMicroConditioning(io.ComfyNode):
    """Micro-conditioning for any CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedMicroConditioning",
            display_name="aMUSEd micro-conditioning",
            category="aMUSEd",
            description="Adds size, crop and aesthetic score to an encoded prompt; also works after stock text nodes.",
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="An encoded prompt."),
                io.Int.Input("width", **SIZE, tooltip=WIDTH_TIP),
                io.Int.Input("height", **SIZE, tooltip=HEIGHT_TIP),
                io.Int.Input("crop_top", **CROP, tooltip=TOP_TIP),
                io.Int.Input("crop_left", **CROP, tooltip=LEFT_TIP),
                io.Float.Input("aesthetic_score", **SCORE, tooltip=SCORE_TIP),
            ],
            outputs=[io.Conditioning.Output(tooltip="The prompt with its micro-conditioning.")],
        )

    @classmethod
    def execute(
        cls, conditioning: Any, width: int, height: int, crop_top: int, crop_left: int, aesthetic_score: float
    ) -> io.NodeOutput:
        """Adds the values to every entry."""
        return io.NodeOutput(host.with_micro(conditioning, (width, height, crop_top, crop_left, aesthetic_score)))
