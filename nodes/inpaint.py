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
            description="Encodes an image and expands a mask to whole tokens: every token that the mask touches is "
            "regenerated, all others stay exactly as they are.",
            inputs=[
                io.Image.Input("pixels", tooltip="The image to edit."),
                io.Mask.Input("mask", tooltip="White marks what to regenerate."),
                io.Vae.Input("vae", tooltip="The VAE of 'Load aMUSEd'."),
                io.Int.Input(
                    "grow",
                    default=0,
                    min=-64,
                    max=64,
                    tooltip="Tokens to add around the mask; a negative number shrinks the mask.",
                ),
                io.Boolean.Input("invert", default=False, tooltip="Regenerate what is outside the mask instead."),
                io.Combo.Input("sides", options=list(SIDES), default="crop", tooltip=SIDES_TIP),
            ],
            outputs=[
                io.Latent.Output(tooltip="The image's tokens with their mask, for a sampler."),
                io.Mask.Output(tooltip="The mask in whole tokens, for 'aMUSEd inpaint composite'."),
                io.Image.Output(tooltip="The image in the size that was encoded, for 'aMUSEd inpaint composite'."),
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
            description="Restores the original pixels outside the mask, since decoding changes every pixel a little.",
            inputs=[
                io.Image.Input(
                    "original", tooltip="The image before inpainting: the image output of 'aMUSEd inpaint mask'."
                ),
                io.Image.Input("generated", tooltip="The decoded result."),
                io.Mask.Input("mask", tooltip="The mask output of 'aMUSEd inpaint mask'."),
                io.Int.Input(
                    "feather",
                    default=2,
                    min=0,
                    max=256,
                    tooltip="Width of the soft edge in pixels, inside the mask. 0: a hard edge; large values hide "
                    "small masked areas.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The original image with the inpainted area.")],
        )

    @classmethod
    def execute(cls, original: Any, generated: Any, mask: Any, feather: int) -> io.NodeOutput:
        """Joins the two pictures."""
        return io.NodeOutput(latents.composite(original, generated, mask, feather))
