"""Checkpoints as a folder in diffusers' layout."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, one_line, quoted
from ..families import Family
from ..files.reading import WeightFiles, read_json
from ..files.writing import TakenError, beside
from ..settings.inputs import is_whole
from .contents import Checkpoint

CONFIGS = {
    "transformer": "transformer/config.json",
    "vqvae": "vqvae/config.json",
    "text_encoder": "text_encoder/config.json",
    "scheduler": "scheduler/scheduler_config.json",
}
TEXT_CLASSES = {"text_encoder": "CLIPTextModelWithProjection", "tokenizer": "CLIPTokenizer"}
WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "vqvae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
INDEX_FILE = "model_index.json"
# Tokens of a prompt: its begin, its end, and one between.
SHORTEST = 3


class FolderSource:
    """A folder in diffusers' layout."""

    def __init__(self, path: Path, variant: str | None, mmap: bool = False) -> None:
        if not os.path.isfile(path / INDEX_FILE):
            raise CheckpointError(f"{str(path)!r} has no {INDEX_FILE}: it is no model folder in diffusers' layout.")
        self.path = path
        self.variant = variant
        self.mmap = mmap
        self._configs = {part: read_json(path / file) for part, file in CONFIGS.items()}
        if empty := [path / CONFIGS[part] for part, config in self._configs.items() if not config]:
            raise CheckpointError(f"{str(empty[0])!r} is an empty JSON object.")

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`."""
        return dict(self._configs[part])

    def state(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        return WeightFiles(self.path / part, self._variant(part), self.mmap).read()

    def layout(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        return WeightFiles(self.path / part, self._variant(part)).layout()

    def _variant(self, part: str) -> str | None:
        """The variant of a part's weights: as in diffusers the plain ones ("") where only others have it."""
        has = {name: WeightFiles(self.path / name, self.variant).exist() for name in WEIGHTS}
        plain = self.variant and not has[part] and any(has.values()) and WeightFiles(self.path / part, "").exist()
        return "" if plain else self.variant

    def tokenizer(self) -> Any:
        """See `Source`."""
        from transformers import CLIPTokenizerFast

        folder = self.path / "tokenizer"
        try:
            _check_merges(folder / "merges.txt")
            for file in filter(Path.is_file, (folder / "special_tokens_map.json", folder / "tokenizer_config.json")):
                read_json(file)
            return check_tokenizer(CLIPTokenizerFast.from_pretrained(folder, local_files_only=True))
        except CheckpointError:
            raise
        except Exception as error:  # the tokenizers library raises bare Exceptions
            raise CheckpointError(f"The tokenizer in {str(folder)!r} cannot be read: {one_line(error)}.") from error

    def extra(self) -> dict[str, Any]:
        """See `Source`."""
        file = self.path / "amused.json"
        return read_json(file) if file.is_file() else {}


def write_folder(path: str | Path, checkpoint: Checkpoint, dtype: torch.dtype | None = None) -> None:
    """Writes a whole checkpoint as a folder that diffusers' `AmusedPipeline.from_pretrained` loads, too.

    Args:
        path: the folder, which must not be there yet; written beside itself first and then put in place.
        checkpoint: the checkpoint to copy.
        dtype: cast floating-point weights to it; None keeps each as it is.

    Raises:
        TakenError: there is something at `path`.
        CheckpointError: the weights are no numbers, or the tokenizer is not CLIP's kind.
        AmusedError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if os.path.exists(path):  # False, too, for what no file can be called, which `beside` says.
        raise TakenError(f"{str(path)!r} already exists; a folder is only written under a new name.")
    with beside(path, overwrite=False) as partial:
        for part, file in CONFIGS.items():
            config = checkpoint.config(part)
            if part in WEIGHTS:
                target = partial / part / WEIGHTS[part]
                target.parent.mkdir(parents=True)
                save_file(checkpoint.weights(part, dtype), target, metadata={"format": "pt"})
            _write_json(partial / file, _read_in_full(config) if part == "text_encoder" else config)
        _write_tokenizer(partial / "tokenizer", checkpoint.tokenizer())
        _write_json(partial / "amused.json", {**checkpoint.extra(), "name": checkpoint.name})
        _write_json(partial / INDEX_FILE, _index(checkpoint.family))


def check_tokenizer(tokenizer: Any) -> Any:
    """`tokenizer`, after a prompt has gone through it: what its files say is used, but not checked, on reading.

    Raises:
        ValueError: it has no padding token, or a length that is no number of tokens. Other errors are the library's.
    """
    if not isinstance(tokenizer.pad_token, str):
        raise ValueError(f"special_tokens_map.json has the pad_token {quoted(tokenizer.pad_token)}; allowed is a text")
    length = tokenizer.model_max_length
    if not is_whole(length) or length < SHORTEST:
        allowed = f"allowed are whole numbers from {SHORTEST}"
        raise ValueError(f"tokenizer_config.json has the model_max_length {quoted(length)}; {allowed}")
    tokenizer(["a"], padding="max_length", truncation=True, max_length=SHORTEST)
    return tokenizer


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """Names and texts of a tokenizer's special tokens ("bos_token" and the like)."""
    return {key: str(value) for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}


def _index(family: Family) -> dict[str, Any]:
    """What diffusers finds the parts of a pipeline by."""
    parts = {part: ["diffusers", name] for part, name in family.classes.items()}
    text = {part: ["transformers", name] for part, name in TEXT_CLASSES.items()}
    return {"_class_name": family.pipeline, **dict(sorted({**parts, **text}.items()))}


def _read_in_full(config: dict[str, Any]) -> dict[str, Any]:
    """A transformers config that asks for fp32, as diffusers does for the other parts unless told a dtype for all.

    Otherwise transformers would take the dtype of the weights, and a folder of half precision would not fit together.
    """
    return {key: value for key, value in config.items() if key != "dtype"} | {"torch_dtype": "float32"}


def _write_tokenizer(folder: Path, tokenizer: Any) -> None:
    """All files that any version of transformers looks for; its own `save_pretrained` writes some of them only."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    model = content["model"]
    if model.get("type") != "BPE":
        raise CheckpointError(f"The tokenizer is a {model.get('type')!r}; diffusers' layout allows 'BPE', CLIP's kind.")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    special = special_tokens(tokenizer)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokenizer.model_max_length, **special}
    _write_json(folder / "tokenizer.json", {**content, "truncation": None, "padding": None})
    _write_json(folder / "vocab.json", model["vocab"])
    _write_json(folder / "tokenizer_config.json", settings)
    _write_json(folder / "special_tokens_map.json", special)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _check_merges(file: Path) -> None:
    """Older transformers versions read a damaged merges file without a word, and then split words wrongly."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in lines:
        if line.strip() and not line.startswith("#version") and len(line.split()) != 2:
            raise ValueError(f"{file.name} holds {line[:40]!r}, which is no pair of symbols")
