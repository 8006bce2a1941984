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
            description="Puts a LoRA, a trained style or subject, on an aMUSEd model. Several can be chained.",
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of 'Load aMUSEd', or of another LoRA loader."),
                io.Combo.Input(
                    "lora_name",
                    options=lora.names(),
                    default=lora.NONE,
                    tooltip="A .safetensors file in models/loras, in the format of diffusers, peft or kohya. "
                    "'embedded: …' comes with the pack, for the embedded model. none: no change.",
                ),
                io.Float.Input(
                    "strength_model",
                    **STRENGTH,
                    tooltip="How strongly the transformer is changed: 1 as trained, 0 not at all, negative away from "
                    "the style.",
                ),
                io.Float.Input(
                    "strength_clip",
                    **STRENGTH,
                    tooltip="The same for the text encoder; without effect where the LoRA has no part for it.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The CLIP of 'Load aMUSEd', for LoRAs that change the text encoder too.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The transformer with the LoRA."),
                io.Clip.Output(tooltip="The text encoder with the LoRA; nothing where no CLIP is connected."),
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
