"""Pictures to tokens and back."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.latent import latents
from .host.latent.pictures import SIDES

TILE = {"default": 0, "min": 0, "max": 4096, "step": 64}
SIDES_TIP = (
    "What to do if a side is not a multiple of the token size (16 pixels; 8 in the embedded model): "
    "crop both edges equally, pad by repeating the edge pixels, resize to the nearest multiple, "
    "or refuse the image."
)


class AmusedVQEncode(io.ComfyNode):
    """A picture as tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedVQEncode",
            display_name="aMUSEd VQ encode",
            category="aMUSEd",
            description="Encodes images as tokens and handles sizes that do not fit.",
            inputs=[
                io.Image.Input("pixels", tooltip="The images."),
                io.Vae.Input("vae", tooltip="The VAE of 'Load aMUSEd'."),
                io.Combo.Input("sides", options=list(SIDES), default="crop", tooltip=SIDES_TIP),
                io.Int.Input(
                    "tile_size",
                    **TILE,
                    tooltip="Tile size in pixels, for large images and little GPU memory. 0: no tiling.",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The tokens of the images.")],
        )

    @classmethod
    def execute(cls, pixels: Any, vae: Any, sides: str, tile_size: int) -> io.NodeOutput:
        """Encodes the pictures."""
        return io.NodeOutput(latents.encode(vae, pixels, sides, tile_size))


class AmusedVQDecode(io.ComfyNode):
    """Tokens as a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedVQDecode",
            display_name="aMUSEd VQ decode",
            category="aMUSEd",
            description="Decodes tokens to images. Tokens that are still masked are shown in grey.",
            inputs=[
                io.Latent.Input("samples", tooltip="Tokens; some may still be masked."),
                io.Vae.Input("vae", tooltip="The VAE of 'Load aMUSEd'."),
                io.Int.Input(
                    "tile_size",
                    **TILE,
                    tooltip="Tile size in pixels, for large images and little GPU memory. 0: no tiling.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The images.")],
        )

    @classmethod
    def execute(cls, samples: Any, vae: Any, tile_size: int) -> io.NodeOutput:
        """Decodes the tokens."""
        return io.NodeOutput(latents.decode(vae, samples, tile_size))
