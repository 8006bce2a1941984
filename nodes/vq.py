"""Pictures to tokens and back."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.latent import latents
from .host.latent.pictures import SIDES

TILE = {"default": 0, "min": 0, "max": 4096, "step": 64}
SIDES_TIP = (
    "What to do when a side is no multiple of the model's cell (16 pixels, the embedded model 8): crop equally on both "
    "sides, pad by repeating the last pixels, resize to the nearest size, or refuse."
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
            description="Turns pictures into tokens, and says what happens to sizes that do not fit.",
            inputs=[
                io.Image.Input("pixels", tooltip="The pictures."),
                io.Vae.Input("vae", tooltip="The VAE of 'Load aMUSEd'."),
                io.Combo.Input("sides", options=list(SIDES), default="crop", tooltip=SIDES_TIP),
                io.Int.Input(
                    "tile_size", **TILE, tooltip="Pixels per tile, for large pictures on small cards. 0: all at once."
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The tokens of the pictures.")],
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
            description="Turns tokens into pictures. Tokens that are not decided yet are shown grey.",
            inputs=[
                io.Latent.Input("samples", tooltip="Tokens, all or only some of them decided."),
                io.Vae.Input("vae", tooltip="The VAE of 'Load aMUSEd'."),
                io.Int.Input(
                    "tile_size", **TILE, tooltip="Pixels per tile, for large pictures on small cards. 0: all at once."
                ),
            ],
            outputs=[io.Image.Output(tooltip="The pictures.")],
        )

    @classmethod
    def execute(cls, samples: Any, vae: Any, tile_size: int) -> io.NodeOutput:
        """Decodes the tokens."""
        return io.NodeOutput(latents.decode(vae, samples, tile_size))
