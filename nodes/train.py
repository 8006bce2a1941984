"""Training."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.train import lora

MAX_SEED = 0xFFFFFFFFFFFFFFFF


class AmusedTrainLora(io.ComfyNode):
    """A LoRA from pictures and captions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedTrainLora",
            display_name="Train aMUSEd LoRA",
            category="aMUSEd/training",
            description="Learns a style or a subject from one picture or several, as a LoRA. Needs the packages peft "
            "and accelerate.",
            is_experimental=True,
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of 'Load aMUSEd'. It is left as it is: a copy is trained."),
                io.Clip.Input("clip", tooltip="The CLIP of 'Load aMUSEd'."),
                io.Vae.Input("vae", tooltip="The VAE of 'Load aMUSEd'."),
                io.Image.Input(
                    "image", tooltip="What to learn. Other sizes are resized and cut to the size that the model draws."
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What the pictures show, and a word for the style. One line for all of them, or a line for "
                    "each.",
                ),
                io.Combo.Input(
                    "preset",
                    options=["style", "dataset"],
                    default="style",
                    tooltip="Where the values left at 0 come from. style: one picture or few; dataset: many.",
                ),
                io.Int.Input("steps", default=0, min=0, max=100000, tooltip="Updates of the LoRA. 0: the preset's."),
                io.Float.Input(
                    "learning_rate",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.00001,
                    tooltip="How far each step goes. Too high, and all pictures become the one. 0: the preset's.",
                ),
                io.Int.Input(
                    "rank",
                    default=0,
                    min=0,
                    max=256,
                    tooltip="How much the LoRA can hold. 0: the preset's.",
                ),
                io.Int.Input(
                    "batch_size", default=0, min=0, max=256, tooltip="Pictures in each step. 0: the preset's."
                ),
                io.Int.Input("seed", default=0, min=0, max=MAX_SEED, tooltip="Start of all chance."),
                io.String.Input(
                    "keep",
                    multiline=True,
                    default="",
                    tooltip="Prompts, one a line, whose pictures the model is to go on drawing as before: it draws "
                    "them first and learns them beside yours. Leave out the word for the style.",
                ),
                io.Int.Input(
                    "preview_every",
                    default=25,
                    min=0,
                    max=100000,
                    tooltip="Steps between two previews of what the first caption draws. 0: none.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["fp32", "bf16", "fp16"],
                    default="fp32",
                    tooltip="Number format of the computation. bf16 and fp16 need less memory on a graphics card.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=False,
                    tooltip="Needs much less memory and a third more time.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model with the LoRA, to try it at once."),
                io.Custom("LORA_MODEL").Output(
                    display_name="lora",
                    tooltip="The LoRA's weights, for the stock 'Load LoRA Model' and 'Save LoRA Weights'; the saved "
                    "file is for 'Load aMUSEd LoRA' and the stock LoRA loaders.",
                ),
                io.Custom("LOSS_MAP").Output(
                    display_name="loss_map", tooltip="The loss of each step, for the stock 'Plot Loss Graph'."
                ),
                io.Int.Output(display_name="steps", tooltip="The number of steps, for the name of the saved file."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        image: Any,
        text: str,
        preset: str,
        steps: int,
        learning_rate: float,
        rank: int,
        batch_size: int,
        seed: int,
        keep: str,
        preview_every: int,
        precision: str,
        gradient_checkpointing: bool,
    ) -> io.NodeOutput:
        """Trains."""
        result = lora.train_lora(
            model,
            clip,
            vae,
            image,
            text,
            keep,
            preset,
            preview_every,
            steps=steps,
            learning_rate=learning_rate,
            rank=rank,
            batch=batch_size,
            seed=seed,
            precision=precision,
            gradient_checkpointing=gradient_checkpointing,
        )
        return io.NodeOutput(*result)
