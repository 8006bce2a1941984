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
            description="Trains a LoRA on a style or subject from one or more images. Requires the packages peft "
            "and accelerate.",
            is_experimental=True,
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of 'Load aMUSEd'. It stays unchanged: a copy is trained."),
                io.Clip.Input("clip", tooltip="The CLIP of 'Load aMUSEd'."),
                io.Vae.Input("vae", tooltip="The VAE of 'Load aMUSEd'."),
                io.Image.Input("image", tooltip="The training images, resized and cropped to the model's native size."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What the images show, and a word for the style. One line for all images, or one line per "
                    "image.",
                ),
                io.Combo.Input(
                    "preset",
                    options=["style", "dataset"],
                    default="style",
                    tooltip="Source of the values left at 0. style: one or a few images; dataset: many.",
                ),
                io.Int.Input("steps", default=0, min=0, max=100000, tooltip="Training steps. 0: the preset's value."),
                io.Float.Input(
                    "learning_rate",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.00001,
                    tooltip="Size of each update. If it is too high, every image turns into the training image. 0: the "
                    "preset's value.",
                ),
                io.Int.Input(
                    "rank",
                    default=0,
                    min=0,
                    max=256,
                    tooltip="Capacity of the LoRA. 0: the preset's value.",
                ),
                io.Int.Input(
                    "batch_size", default=0, min=0, max=256, tooltip="Images per training step. 0: the preset's value."
                ),
                io.Int.Input("seed", default=0, min=0, max=MAX_SEED, tooltip="The random seed."),
                io.String.Input(
                    "keep",
                    multiline=True,
                    default="",
                    tooltip="Prompts, one per line, for images that the model should keep generating as before: it "
                    "generates them first and trains on them together with yours. Leave out the word for the "
                    "style.",
                ),
                io.Int.Input(
                    "preview_every",
                    default=25,
                    min=0,
                    max=100000,
                    tooltip="Steps between previews of the first caption. 0: no previews.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["fp32", "bf16", "fp16"],
                    default="fp32",
                    tooltip="Precision of the computation. bf16 and fp16 need less GPU memory.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=False,
                    tooltip="Needs much less memory, but a third more time.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model with the LoRA, ready to try."),
                io.Custom("LORA_MODEL").Output(
                    display_name="lora",
                    tooltip="The LoRA weights, for the stock 'Load LoRA Model' and 'Save LoRA Weights'; the saved file "
                    "works with 'Load aMUSEd LoRA' and the stock LoRA loaders.",
                ),
                io.Custom("LOSS_MAP").Output(
                    display_name="loss_map", tooltip="The loss of each step, for the stock 'Plot Loss Graph'."
                ),
                io.Int.Output(
                    display_name="steps", tooltip="The number of training steps, for the name of the saved file."
                ),
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
