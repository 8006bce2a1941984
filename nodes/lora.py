"""Loading a LoRA."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.load import lora

STRENGTH = {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}


class AmusedLoraLoader(io.ComfyNode):
    """MODEL and CLIP with a style on top."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedLoraLoader",
            display_name="Load aMUSEd LoRA",
            category="aMUSEd",
            description="Applies a LoRA, a trained style or subject, to an aMUSEd model. Several can be chained.",
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of 'Load aMUSEd' or of another LoRA loader."),
                io.Combo.Input(
                    "lora_name",
                    options=lora.names(),
                    default=lora.NONE,
                    tooltip="A .safetensors file in models/loras, in diffusers, peft or kohya format. 'embedded: …' "
                    "ships with the pack, for the embedded model. none: no LoRA.",
                ),
                io.Float.Input(
                    "strength_model",
                    **STRENGTH,
                    tooltip="LoRA strength in the transformer: 1 as trained, 0 no effect, negative values move away "
                    "from the style.",
                ),
                io.Float.Input(
                    "strength_clip",
                    **STRENGTH,
                    tooltip="LoRA strength in the text encoder; no effect if the LoRA has no weights for it.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The CLIP of 'Load aMUSEd', for LoRAs that also change the text encoder.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The transformer with the LoRA."),
                io.Clip.Output(tooltip="The text encoder with the LoRA; empty if no CLIP is connected."),
            ],
        )

    @classmethod
    def validate_inputs(cls, lora_name: str | None) -> bool:
        """Takes names that are not in the list, such as those with the backslashes of Windows; `load` finds them."""
        return True

    @classmethod
    def fingerprint_inputs(cls, lora_name: str, **kwargs: Any) -> Any:
        """A LoRA that is replaced on disk is loaded again."""
        return lora.fingerprint(lora_name)

    @classmethod
    def execute(
        cls, model: Any, lora_name: str, strength_model: float, strength_clip: float, clip: Any = None
    ) -> io.NodeOutput:
        """Patches clones of both."""
        return io.NodeOutput(*lora.load(model, clip, lora_name, strength_model, strength_clip))
