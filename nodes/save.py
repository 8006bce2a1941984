"""Saving a model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.save import checkpoint, output
from .load import DTYPES


class AmusedSaveModel(io.ComfyNode):
    """MODEL, CLIP and VAE as one checkpoint on disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedSaveModel",
            display_name="aMUSEd save model",
            category="aMUSEd/files",
            description="Saves a complete aMUSEd model, including merges and LoRAs, to the output folder.",
            inputs=[
                io.Model.Input("model", tooltip="The aMUSEd MODEL, after merges and LoRAs."),
                io.Clip.Input("clip", tooltip="Its CLIP, after LoRAs."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.String.Input(
                    "filename_prefix",
                    default="amused/model",
                    tooltip="Name in the output folder; a number is appended, and no file is ever overwritten.",
                ),
                io.Combo.Input(
                    "layout",
                    options=list(checkpoint.LAYOUTS),
                    default=checkpoint.ONE_FILE,
                    tooltip="one file: a .safetensors file for this pack. diffusers folder: a folder that both "
                    "diffusers and this pack load. Move either to models/amused to load it again.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=DTYPES,
                    default="auto",
                    tooltip="Precision of the saved weights. auto: as loaded; fp16 halves the size of fp32.",
                ),
            ],
            outputs=[],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, model: Any, clip: Any, vae: Any, filename_prefix: str, layout: str, dtype: str) -> io.NodeOutput:
        """Writes the checkpoint."""
        graph = (cls.hidden.prompt, cls.hidden.extra_pnginfo)
        path = checkpoint.save_model(model, clip, vae, filename_prefix, layout, dtype, *graph)
        return io.NodeOutput(ui={"models": [output.shown(path)]})
