"""Reading JSON, and finding the weight files of a model folder, with errors that name the file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CheckpointError, one_line
from .tensors import TensorFile


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: the file is missing or is not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())  # In bytes it takes a byte order mark, and UTF-16.
    except FileNotFoundError:
        raise CheckpointError(f"{str(path)!r} is missing.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read as JSON: {one_line(error)}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{str(path)!r} must hold a JSON object, but holds a {type(content).__name__}.")
    return content


class WeightFiles:
    """The weight file of one part of a diffusers folder, or its shards, in one variant.

    Args:
        folder: the part's folder.
        variant: "fp16" and the like; "" is the plain file, None the plain file or the only variant there is.
        mmap: map the files into memory instead of reading them; see `load_model`.
    """

    STEMS = ("diffusion_pytorch_model", "model")

    def __init__(self, folder: Path, variant: str | None, mmap: bool = False) -> None:
        self.folder = folder
        self.variant = variant
        self.mmap = mmap

    def exist(self) -> bool:
        """Whether there is a file, or an index of shards, of exactly this variant."""
        return bool(self._find(self.variant))

    def read(self) -> dict[str, Tensor]:
        """All tensors of the part.

        Raises:
            CheckpointError: no such file, or one that cannot be read.
        """
        return {key: value for file in self._files() for key, value in file.read(mmap=self.mmap).items()}

    def layout(self) -> dict[str, Tensor]:
        """The same without values, on the meta device."""
        return {key: value for file in self._files() for key, value in file.layout().items()}

    def _files(self) -> list[TensorFile]:
        try:
            return [TensorFile(path) for path in self._paths()]
        except OSError as error:
            raise CheckpointError(f"The weights in {str(self.folder)!r} cannot be read: {one_line(error)}.") from error

    def _paths(self) -> list[Path]:
        variant = self.variant
        found = self._find(variant)
        if not found and variant is None:
            variants = self._variants()
            found = self._find(variants[0]) if len(variants) == 1 else []
        if not found:
            raise CheckpointError(self._missing())
        return found

    def _find(self, variant: str | None) -> list[Path]:
        infix = f".{variant}" if variant else ""
        for stem in self.STEMS:
            index = self.folder / f"{stem}.safetensors.index{infix}.json"
            if index.is_file():
                shards = read_json(index).get("weight_map")
                if not isinstance(shards, dict):
                    raise CheckpointError(f"{str(index)!r} has no weight_map; it must name the file of each weight.")
                return sorted({self._shard(str(name), index) for name in shards.values()})
            file = self.folder / f"{stem}{infix}.safetensors"
            if file.is_file():
                return [file]
        return []

    def _shard(self, name: str, index: Path) -> Path:
        """A shard lies beside its index: no other file is read on an index's word."""
        if Path(name).name != name:
            raise CheckpointError(f"{str(index)!r} names {name!r}; allowed are files in the same folder.")
        return self.folder / name

    def _variants(self) -> list[str]:
        stem = "|".join(self.STEMS)
        pattern = re.compile(
            rf"(?:{stem})\.(?:([^.]+?)(?:-\d+-of-\d+)?\.safetensors|safetensors\.index\.([^.]+)\.json)"
        )
        matches = (pattern.fullmatch(file.name) for file in self.folder.glob("*"))
        return sorted({match[1] or match[2] for match in matches if match})

    def _missing(self) -> str:
        asked = ".safetensors weights" if self.variant is None else f"weights of the variant {self.variant!r}"
        there = ", ".join(sorted(file.name for file in self.folder.glob("*"))) or "nothing"
        return f"{str(self.folder)!r} has no {asked}; it holds {there} (only safetensors are read)."
