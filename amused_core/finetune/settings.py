"""The settings of a fine-tuning run."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import AmusedError, quoted
from ..sampling.randomness import MAX_SEED
from ..settings import inputs

KINDS = ("lora", "full")
PRECISIONS = ("fp32", "bf16", "fp16")
OPTIMIZERS = ("adamw", "adamw8bit")
LR_SCHEDULES = ("constant", "cosine")
MAX_STEPS = 1_000_000
RANGES: dict[str, tuple[float, float]] = {
    "ema": (0, 0.999999), "drop_text": (0, 1), "regions": (0, 1), "label_smoothing": (0, 0.9),
    "learning_rate": (1e-9, 1), "alpha": (1e-3, 1e4), "weight_decay": (0, 1), "max_norm": (1e-3, 1e6),
    "prior_weight": (0, 100),
}  # fmt: skip
COUNTS = {
    "steps": (1, MAX_STEPS), "batch": (1, 4096), "accumulation": (1, 4096), "rank": (1, 1024), "warmup": (0, MAX_STEPS),
    "prior_count": (1, 4096), "seed": (0, MAX_SEED),
}  # fmt: skip
CHOICES = {"kind": KINDS, "precision": PRECISIONS, "optimizer": OPTIMIZERS, "lr_schedule": LR_SCHEDULES}

FLAGS = ("text_encoder", "gradient_checkpointing")
TEXTS = ("targets", "text_targets", "prior_prompts")


@dataclass(frozen=True)
class TrainingSettings:
    """What a run does; values out of range raise `AmusedError` here.

    Attributes:
        kind: "lora", or "full": all weights of the U-ViT.
        steps: updates of the weights. Each sees `batch * accumulation` pictures on every device.
        learning_rate: the highest; reached after `warmup` steps, then constant, or falling to 0 ("cosine").
        rank, alpha, targets: of the LoRA; what it adds to a layer is scaled by `alpha / rank`.
        text_encoder: whether it is trained, too; `text_targets` are its layers in a LoRA.
        drop_text: share of the examples whose caption is replaced by an empty one, for guidance.
        regions: share of the masks that are one rectangle instead of scattered tokens, for inpainting.
        label_smoothing: of the cross entropy.
        ema: decay of the averaged weights that are written in the end; 0 for none.
        prior_prompts: class prompts whose pictures, drawn by the model before training, are learnt beside the
            examples (`prior_count` of them in all, `prior_weight` times the loss), so that it forgets less.
        gradient_checkpointing: less memory, a third more time.
        optimizer: "adamw", or "adamw8bit" of bitsandbytes.
        precision: "fp32"; "bf16" or "fp16" multiply in half precision.
        seed: of everything random.
        preset: the name of the preset they come from, for messages only.
    """

    kind: str = "lora"
    steps: int = 1000
    learning_rate: float = 4e-4
    batch: int = 1
    accumulation: int = 1
    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v")
    text_encoder: bool = False
    text_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    drop_text: float = 0.1
    regions: float = 0.15
    label_smoothing: float = 0.0
    ema: float = 0.0
    warmup: int = 0
    lr_schedule: str = "constant"
    weight_decay: float = 0.01
    max_norm: float = 1.0
    prior_prompts: tuple[str, ...] = ()
    prior_count: int = 32
    prior_weight: float = 1.0
    gradient_checkpointing: bool = False
    optimizer: str = "adamw"
    precision: str = "fp32"
    seed: int = 0
    preset: str | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            inputs.number(getattr(self, name), name, low, high)
        for name, (low, high) in COUNTS.items():
            inputs.whole(getattr(self, name), name, int(low), int(high))
        for name, allowed in CHOICES.items():
            inputs.choice(getattr(self, name), name, allowed)
        for name in FLAGS:
            inputs.flag(getattr(self, name), name)
        for name in TEXTS:
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
                raise AmusedError(f"{name} is {quoted(value)}; allowed is a list of texts.")

    def with_changes(self, **changes: Any) -> TrainingSettings:
        """These settings with the changes that are not None."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


SETTING_NAMES = tuple(field.name for field in fields(TrainingSettings) if field.name != "preset")
