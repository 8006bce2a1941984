"""The results of a run: a LoRA in diffusers' format, or a whole model as a diffusers folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..checkpoint import Checkpoint
from ..checkpoint.folder import write_folder
from .adapters import lora_state
from .settings import TrainingSettings
from .trainable import TrainableModel


def lora_tensors(model: TrainableModel) -> dict[str, Tensor]:
    """All LoRA weights of a trained model, in diffusers' format."""
    parts: dict[str, nn.Module | None] = {"transformer": model.transformer, "text_encoder": model.text_encoder}
    return {
        key: value
        for name, module in parts.items()
        if module is not None
        for key, value in lora_state(module, name).items()
    }


def lora_metadata(base: str, settings: TrainingSettings, steps: int, captions: tuple[str, ...]) -> dict[str, str]:
    """The metadata of a LoRA file. `lora_alpha` is the rank: the alpha of the training is in the weights."""
    return {
        "format": "pt",
        "base_model": base,
        "rank": str(settings.rank),
        "lora_alpha": str(settings.rank),
        "trained_alpha": f"{settings.alpha:g}",
        "learning_rate": f"{settings.learning_rate:g}",
        "prompts": json.dumps(list(dict.fromkeys(captions))[:100], ensure_ascii=True),
        "steps": str(steps),
        "seed": str(settings.seed),
    }


class TrainedSource:
    """A checkpoint's parts with the weights of a trained model, in the dtype of the base; see `checkpoint.Source`."""

    def __init__(self, base: Checkpoint, model: TrainableModel) -> None:
        self.base, self.model = base, model

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`."""
        return self.base.config(part)

    def state(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        tensors = self.base.state(part)
        module = getattr(self.model, part, None)
        trained = {} if module is None else module.state_dict()
        return {key: trained[key].detach().to("cpu", v.dtype) if key in trained else v for key, v in tensors.items()}

    def layout(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        return self.base.layout(part)

    def tokenizer(self) -> Any:
        """See `Source`."""
        return self.base.tokenizer()

    def extra(self) -> dict[str, Any]:
        """See `Source`."""
        return self.base.extra()


def write_model(folder: Path, base: Checkpoint, model: TrainableModel) -> None:
    """Writes a diffusers folder with the trained weights, all else as in the base; an existing folder is kept."""
    if not folder.exists():
        write_folder(folder, Checkpoint(base.path, TrainedSource(base, model)))
