"""The settings of a fine-tuning run, and values that are known to work."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from .. import inputs
from ..errors import AmusedError
from ..networks.uvit.config import UVitConfig
from ..sampling.randomness import MAX_SEED

KINDS = ("lora", "full")
PRECISIONS = ("fp32", "bf16", "fp16")
OPTIMIZERS = ("adamw", "adamw8bit")
LR_SCHEDULES = ("constant", "cosine")
MAX_STEPS = 1_000_000
LESS = {"ema": (0, 0.999999), "drop_text": (0, 1), "regions": (0, 1), "label_smoothing": (0, 0.9)}
RANGES: dict[str, tuple[float, float]] = LESS | {
    "learning_rate": (1e-9, 1), "alpha": (1e-3, 1e4), "weight_decay": (0, 1), "max_norm": (1e-3, 1e6),
    "prior_weight": (0, 100),
}  # fmt: skip
COUNTS = {
    "steps": (1, MAX_STEPS), "batch": (1, 4096), "accumulation": (1, 4096), "rank": (1, 1024), "warmup": (0, MAX_STEPS),
    "prior_count": (1, 4096), "seed": (0, MAX_SEED),
}  # fmt: skip
CHOICES = {"kind": KINDS, "precision": PRECISIONS, "optimizer": OPTIMIZERS, "lr_schedule": LR_SCHEDULES}


@dataclass(frozen=True)
class Settings:
    """What a run does; checked when it is made.

    Attributes:
        kind: "lora", or "full": all weights of the U-ViT.
        steps: updates of the weights. Each sees `batch * accumulation` pictures on every device.
        learning_rate: the highest; reached after `warmup` steps, then held ("constant") or falling to 0 ("cosine").
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

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            inputs.number(getattr(self, name), name, low, high)
        for name, (low, high) in COUNTS.items():
            inputs.whole(getattr(self, name), name, int(low), int(high))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise AmusedError(f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}.")

    def with_changes(self, **changes: Any) -> Settings:
        """These settings with the changes that are not None."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


# Steps, learning rates, ranks and batches of amused-256 and amused-512: the examples/amused README of diffusers, which
# follows StyleDrop (Sohn et al. 2023) for "style". "style" of the embedded model was found by trying, see
# docs/finetuning.md; its other presets are first guesses.
_EVERYWHERE = (
    "to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2", "channelwise_linear_1", "channelwise_linear_2",
    "project_from_hidden", "mlm_layer.conv1", "mlm_layer.conv2",
)  # fmt: skip
# The small model has three layers of attention only, and knows its pictures by heart: it needs changes everywhere, and
# few steps.
_EMBEDDED: dict[str, Any] = {"learning_rate": 1e-3, "batch": 4, "targets": _EVERYWHERE}
_FULL: dict[str, Any] = {"kind": "full", "label_smoothing": 0.1, "ema": 0.999}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "style": {
        "256": {"learning_rate": 4e-4, "steps": 1500},
        "512": {"learning_rate": 1e-3, "steps": 1500, "alpha": 1.0},
        "embedded": {**_EMBEDDED, "steps": 30, "drop_text": 0.0, "prior_weight": 0.5},
    },
    "dataset": {
        "256": {"learning_rate": 8e-4, "steps": 1000, "batch": 16},
        "512": {"learning_rate": 1e-4, "steps": 750, "batch": 8},
        "embedded": {**_EMBEDDED, "steps": 300, "batch": 16},
    },
    "full": {
        "256": {**_FULL, "learning_rate": 1e-4, "steps": 750, "batch": 8},
        "512": {**_FULL, "learning_rate": 8e-5, "steps": 750, "batch": 8},
        "embedded": {**_FULL, "learning_rate": 3e-4, "steps": 500, "batch": 16},
    },
    "full-8bit": {
        "256": {**_FULL, "learning_rate": 2e-5, "steps": 750, "batch": 16, "optimizer": "adamw8bit"},
        "512": {**_FULL, "learning_rate": 5e-6, "steps": 750, "batch": 8, "optimizer": "adamw8bit"},
        "embedded": {**_FULL, "learning_rate": 1e-4, "steps": 500, "batch": 16, "optimizer": "adamw8bit"},
    },
}
SETTING_NAMES = tuple(field.name for field in fields(Settings))


def size_of(config: UVitConfig) -> str:
    """Which of the models a U-ViT is like: "256", "512", or "embedded" for all small ones."""
    if config.hidden_size < 512:
        return "embedded"
    return "512" if config.downsample else "256"


def preset(name: str, config: UVitConfig, **changes: Any) -> Settings:
    """The settings called `name` for a model, with the changes that are not None.

    Raises:
        AmusedError: unknown name, or a setting out of its range.
    """
    if name not in PRESETS:
        raise AmusedError(f"preset is {name!r}; allowed are {', '.join(PRESETS)}.")
    return Settings(**PRESETS[name][size_of(config)]).with_changes(**changes)
