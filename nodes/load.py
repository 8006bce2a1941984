"""Loading a checkpoint."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.load import bundle, folders

DTYPES = ["auto", "fp32", "fp16", "bf16"]


class AmusedLoader(io.ComfyNode):
    """A checkpoint as MODEL, CLIP and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedLoader",
            display_name="Load aMUSEd",
            category="aMUSEd",
            description="Loads an aMUSEd model: the small one that ships with the pack, or your own from "
            "models/amused.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=folders.model_names(),
                    default=folders.EMBEDDED_NAME,
                    tooltip="'embedded' ships with the pack. The others are folders in diffusers layout in "
                    "models/amused or models/diffusers, or single .safetensors files written by 'amused save' "
                    "or by stock save nodes.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=DTYPES,
                    default="auto",
                    tooltip="Precision of the transformer. auto: fp32 on a CPU, otherwise what suits the GPU.",
                ),
                io.Combo.Input(
                    "text_encoder_dtype",
                    options=DTYPES,
                    default="auto",
                    tooltip="Precision of the text encoder's weights. auto: fp32 on a CPU, otherwise fp16.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The transformer that predicts masked tokens; for any sampler named 'amused'."),
                io.Clip.Output(tooltip="The text encoder; also works with the stock text nodes."),
                io.Vae.Output(
                    tooltip="Encodes images as tokens and decodes them; also works with the stock VAE nodes."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        """Refuses a missing model before anything runs, and says where to put it."""
        return folders.problem(model) or True

    @classmethod
    def fingerprint_inputs(cls, model: str, **kwargs: Any) -> Any:
        """A model that is replaced on disk is loaded again."""
        return folders.fingerprint(model)

    @classmethod
    def execute(cls, model: str, dtype: str, text_encoder_dtype: str) -> io.NodeOutput:
        """Loads all three parts."""
        return io.NodeOutput(*bundle.load(model, dtype, text_encoder_dtype))
