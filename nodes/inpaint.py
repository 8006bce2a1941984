"""Inpainting: strokes to whole tokens, and the untouched pixels back."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.latent import latents
from .host.latent.pictures import SIDES
from .vq import SIDES_TIP


class AmusedInpaintMask(io.ComfyNode):
    """A picture and strokes, ready for a sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedInpaintMask",
            display_name="aMUSEd inpaint mask",
            category="aMUSEd",
            description="Encodes a picture and makes whole tokens of any stroke on it: every token it touches is "
            "drawn anew, all others stay exactly as they are.",
            inputs=[
                io.Image.Input("pixels", tooltip="The picture to change."),
                io.Mask.Input("mask", tooltip="White where the picture is to be drawn anew."),
                io.Vae.Input("vae", tooltip="The VAE of 'Load aMUSEd'."),
                io.Int.Input(
                    "grow",
                    default=0,
                    min=-64,
                    max=64,
                    tooltip="Tokens to add around the strokes, or to take away when negative.",
                ),
                io.Boolean.Input("invert", default=False, tooltip="Draw anew what the strokes leave out."),
                io.Combo.Input("sides", options=list(SIDES), default="crop", tooltip=SIDES_TIP),
            ],
            outputs=[
                io.Latent.Output(tooltip="The tokens of the picture with their mask, for a sampler."),
                io.Mask.Output(tooltip="The mask as whole tokens, for 'aMUSEd inpaint composite'."),
                io.Image.Output(tooltip="The picture in the size that was encoded, for 'aMUSEd inpaint composite'."),
            ],
        )

    @classmethod
    def execute(cls, pixels: Any, mask: Any, vae: Any, grow: int, invert: bool, sides: str) -> io.NodeOutput:
        """Encodes the picture and aligns the mask."""
        return io.NodeOutput(*latents.encode_masked(vae, pixels, mask, sides, grow, invert))


class AmusedInpaintComposite(io.ComfyNode):
    """The original's own pixels outside the mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedInpaintComposite",
            display_name="aMUSEd inpaint composite",
            category="aMUSEd",
            description="Puts the untouched original pixels back around what was drawn anew: decoding changes every "
            "pixel a little, also outside the mask.",
            inputs=[
                io.Image.Input("original", tooltip="The picture before: the picture output of 'aMUSEd inpaint mask'."),
                io.Image.Input("generated", tooltip="The decoded result."),
                io.Mask.Input("mask", tooltip="The mask output of 'aMUSEd inpaint mask'."),
                io.Int.Input(
                    "feather",
                    default=2,
                    min=0,
                    max=256,
                    tooltip="Softness of the edge in pixels, inside the mask. 0: a hard edge; large values hide "
                    "small strokes.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The original with the new part in it.")],
        )

    @classmethod
    def execute(cls, original: Any, generated: Any, mask: Any, feather: int) -> io.NodeOutput:
        """Joins the two pictures."""
        return io.NodeOutput(latents.composite(original, generated, mask, feather))
