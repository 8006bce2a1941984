"""What a run leaves: a LoRA in diffusers' format, or a whole model as a diffusers folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..checkpoint import Checkpoint
from ..checkpoint.folder import write_folder
from .adapters import lora_state
from .checkpoint import put_tensors
from .presets import Settings
from .student import Student


def student_lora(student: Student) -> dict[str, Tensor]:
    """All LoRA weights of a student, in diffusers' format."""
    parts: dict[str, nn.Module | None] = {"transformer": student.transformer, "text_encoder": student.text_encoder}
    return {
        key: value
        for name, module in parts.items()
        if module is not None
        for key, value in lora_state(module, name).items()
    }


def lora_metadata(base: str, settings: Settings, steps: int, captions: tuple[str, ...]) -> dict[str, str]:
    """What a LoRA file says of itself. `lora_alpha` is the rank: the alpha of the training is in the weights."""
    some = list(dict.fromkeys(captions))[:100]
    return {
        "format": "pt",
        "base_model": base,
        "rank": str(settings.rank),
        "lora_alpha": str(settings.rank),
        "trained_alpha": f"{settings.alpha:g}",
        "learning_rate": f"{settings.learning_rate:g}",
        "prompts": json.dumps(some, ensure_ascii=True),
        "steps": str(steps),
        "seed": str(settings.seed),
    }


def write_lora(path: Path, student: Student, metadata: dict[str, str]) -> None:
    """Writes the LoRA of a student."""
    put_tensors(path, student_lora(student), metadata)


class TrainedSource:
    """A checkpoint's parts with the weights of a student, in the dtype of the base; see `checkpoint.Source`."""

    def __init__(self, base: Checkpoint, student: Student) -> None:
        self.base, self.student = base, student

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`."""
        return self.base.config(part)

    def state(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        tensors = self.base.state(part)
        module = getattr(self.student, part, None)
        own = {} if module is None else module.state_dict()
        return {key: own[key].detach().to("cpu", v.dtype) if key in own else v for key, v in tensors.items()}

    def layout(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        return self.base.layout(part)

    def tokenizer(self) -> Any:
        """See `Source`."""
        return self.base.tokenizer()

    def extra(self) -> dict[str, Any]:
        """See `Source`."""
        return self.base.extra()


def write_model(folder: Path, base: Checkpoint, student: Student) -> None:
    """Writes a diffusers folder with the student's weights, all else as the base has it; one that is there stays."""
    if not folder.exists():
        write_folder(folder, Checkpoint(base.path, TrainedSource(base, student)))
