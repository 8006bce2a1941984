"""Checkpoints as a folder in diffusers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import CheckpointError
from .files import WeightFiles, read_json

CONFIGS = {
    "transformer": "transformer/config.json",
    "vqvae": "vqvae/config.json",
    "text_encoder": "text_encoder/config.json",
    "scheduler": "scheduler/scheduler_config.json",
}


class FolderSource:
    """A folder in diffusers' layout."""

    def __init__(self, path: Path, variant: str | None) -> None:
        if not (path / "model_index.json").is_file():
            raise CheckpointError(f"{str(path)!r} has no model_index.json: it is no model folder in diffusers' layout.")
        self.path = path
        self.variant = variant
        self._configs = {part: read_json(path / file) for part, file in CONFIGS.items()}

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`."""
        return dict(self._configs[part])

    def state(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        return WeightFiles(self.path / part, self.variant).read()

    def tokenizer(self) -> Any:
        """See `Source`."""
        from transformers import CLIPTokenizerFast

        folder = self.path / "tokenizer"
        try:
            _check_merges(folder / "merges.txt")
            return CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the tokenizers library raises bare Exceptions
            raise CheckpointError(f"The tokenizer in {str(folder)!r} cannot be read: {error}") from error

    def extra(self) -> dict[str, Any]:
        """See `Source`."""
        file = self.path / "amused.json"
        return read_json(file) if file.is_file() else {}


def _check_merges(file: Path) -> None:
    """Older transformers versions read a damaged merges file without a word, and then split words wrongly."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in lines:
        if line.strip() and not line.startswith("#version") and len(line.split()) != 2:
            raise ValueError(f"{file.name} holds {line[:40]!r}, which is no pair of symbols")
