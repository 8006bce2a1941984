"""Settings that are known to work, by name and model."""

from __future__ import annotations

from typing import Any

from ..networks.uvit.config import UVitConfig
from ..settings.inputs import choice
from .settings import TrainingSettings

# Steps, learning rates, ranks and batches of amused-256 and amused-512: the examples/amused README of diffusers, which
# follows StyleDrop (Sohn et al. 2023) for "style". "style" of the embedded model was chosen by experiment, see
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


def size_of(config: UVitConfig) -> str:
    """Which of the models a U-ViT is like: "256", "512", or "embedded" for all small ones."""
    if config.hidden_size < 512:
        return "embedded"
    return "512" if config.downsample else "256"


def preset(name: str, config: UVitConfig, **changes: Any) -> TrainingSettings:
    """The settings called `name` for a model, with the changes that are not None.

    Raises:
        AmusedError: unknown name, or a setting out of its range.
    """
    values = PRESETS[choice(name, "preset", tuple(PRESETS))][size_of(config)]
    return TrainingSettings(**values, preset=name).with_changes(**changes)
