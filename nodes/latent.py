"""Empty latents."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.latent import latents


class AmusedEmptyLatent(io.ComfyNode):
    """A grid of masked tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        size = {"default": 0, "min": 0, "max": 4096, "step": 8}
        return io.Schema(
            node_id="AmusedEmptyLatent",
            display_name="aMUSEd empty latent",
            category="aMUSEd",
            description="A batch of latents with every token masked: the starting point of a new image.",
            inputs=[
                io.Model.Input("model", tooltip="The aMUSEd MODEL; it determines the pixels per token."),
                io.Int.Input(
                    "width",
                    **size,
                    tooltip="Width in pixels, a multiple of the token size (16; 8 in the embedded model). 0: the "
                    "model's native width.",
                ),
                io.Int.Input(
                    "height",
                    **size,
                    tooltip="Height in pixels, a multiple of the token size (16; 8 in the embedded model). 0: the "
                    "model's native height.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Images to generate at once."),
            ],
            outputs=[io.Latent.Output(tooltip="Latents with every token masked.")],
        )

    @classmethod
    def execute(cls, model: Any, width: int, height: int, batch_size: int) -> io.NodeOutput:
        """Makes the latents."""
        return io.NodeOutput(latents.empty(model, width, height, batch_size))
