"""Checkpoints as one `.safetensors` file, configs and tokenizer in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, one_line
from ..files.tensors import ENDING, TensorFile
from ..files.writing import beside
from .contents import Checkpoint
from .folder import check_tokenizer, special_tokens

METADATA_KEY = "amused"
PARTS = ("transformer", "vqvae", "text_encoder")
CONFIGS = (*PARTS, "scheduler")


class FileSource:
    """One `.safetensors` file: weights under `transformer.`, `vqvae.`, `text_encoder.`, configs in the metadata."""

    def __init__(self, path: Path, mmap: bool = False) -> None:
        self.path = path
        self.mmap = mmap
        self._file = TensorFile(path)
        if METADATA_KEY not in self._file.metadata:
            raise CheckpointError(
                f"{str(path)!r} carries no aMUSEd configuration in its metadata; allowed are files written by "
                "'amused save', and folders in diffusers' layout."
            )
        strays = [key for key in self._file.layout() if key.partition(".")[0] not in PARTS]
        if strays:
            raise CheckpointError(f"{str(path)!r} has unexpected weights, such as {strays[0]}.")
        self._about = _read_metadata(path, self._file.metadata[METADATA_KEY])

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`."""
        return dict(self._about[part])

    def state(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        prefix = f"{part}."
        names = [key for key in self._file.layout() if key.startswith(prefix)]
        return {key.removeprefix(prefix): value for key, value in self._file.read(names, self.mmap).items()}

    def layout(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        prefix = f"{part}."
        return {k.removeprefix(prefix): v for k, v in self._file.layout().items() if k.startswith(prefix)}

    def tokenizer(self) -> Any:
        """See `Source`."""
        return read_tokenizer(self._about["tokenizer"], self.path)

    def extra(self) -> dict[str, Any]:
        """See `Source`."""
        return dict(self._about.get("extra", {}))


def write_checkpoint(
    path: str | Path,
    checkpoint: Checkpoint,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> None:
    """Writes a whole checkpoint as one `.safetensors` file, configs and tokenizer in its metadata.

    Args:
        path: the file, ending in `.safetensors`; written beside itself first and then put in place.
        checkpoint: the checkpoint to copy.
        dtype: cast floating-point weights to it; None keeps each as it is.
        metadata: more entries for the file's metadata.
        overwrite: False: a file that is there stays, and `TakenError` is raised.

    Raises:
        CheckpointError: another ending, or weights that are no numbers.
        AmusedError: the file cannot be written.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix.lower() != ENDING:
        raise CheckpointError(f"{str(path)!r} must end in {ENDING}.")
    tensors = {f"{part}.{key}": value for part in PARTS for key, value in checkpoint.weights(part, dtype).items()}
    about: dict[str, Any] = {part: checkpoint.config(part) for part in CONFIGS}
    about["extra"] = {**checkpoint.extra(), "name": checkpoint.name}
    about["tokenizer"] = describe_tokenizer(checkpoint.tokenizer())
    with beside(path, overwrite) as partial:
        save_file(tensors, partial, metadata={**(metadata or {}), "format": "pt", METADATA_KEY: json.dumps(about)})


def _read_metadata(path: Path, text: str) -> dict[str, Any]:
    try:
        about = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"The aMUSEd metadata of {str(path)!r} is no JSON: {error}.") from error
    missing = [part for part in (*CONFIGS, "tokenizer") if not isinstance(about, dict) or part not in about]
    if missing:
        raise CheckpointError(f"The aMUSEd metadata of {str(path)!r} lacks {', '.join(missing)}.")
    wrong = [key for key, value in about.items() if not isinstance(value, dict)]
    if wrong:
        raise CheckpointError(f"The aMUSEd metadata of {str(path)!r} holds no object under {wrong[0]!r}.")
    return about


def describe_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """A tokenizer as what JSON can hold."""
    return {
        "json": tokenizer.backend_tokenizer.to_str(),
        "settings": {**special_tokens(tokenizer), "model_max_length": tokenizer.model_max_length},
    }


def read_tokenizer(about: dict[str, Any], path: Path) -> Any:
    """The transformers tokenizer that `describe_tokenizer` described.

    Raises:
        CheckpointError: it cannot be read.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    try:
        return check_tokenizer(
            PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(about["json"]), **about["settings"])
        )
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise CheckpointError(f"The tokenizer in {str(path)!r} cannot be read: {one_line(error)}.") from error
