"""Files of ComfyUI's own save nodes: a whole checkpoint, or one part of it alone.

Those nodes know weights only. So each part adds a tensor to its own that holds its configuration, as JSON in UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, one_line
from ..files.tensors import TensorFile
from .contents import Checkpoint
from .single_file import describe_tokenizer, read_tokenizer

# The name of that tensor, behind the prefix of its part.
ABOUT = "amused"
# Where the weights of a part are in a file of several. Text encoder and VQ-GAN alone have none.
PREFIXES = {
    "transformer": "model.diffusion_model.",
    "text_encoder": "cond_stage_model.clip_l.transformer.",
    "vqvae": "first_stage_model.",
}
KEYS = {part: f"{prefix.partition('.')[0]}.{ABOUT}" for part, prefix in PREFIXES.items()}
KEYS["text_encoder"] = f"cond_stage_model.clip_l.{ABOUT}"
MARKS = frozenset((ABOUT, *KEYS.values()))

Base = Callable[[str], Checkpoint]


def describe(part: str, checkpoint: Checkpoint, base: str, tokenizer: Any = None) -> Tensor:
    """The tensor that goes with the weights of a part, uint8.

    Args:
        part: "transformer", "text_encoder" or "vqvae".
        checkpoint: what the part came from.
        base: what the other parts are taken from where this one is saved alone: a name that the reader knows.
        tokenizer: of the text encoder.
    """
    about = {"part": part, "base": base, "config": checkpoint.config(part)}
    if part == "transformer":
        about |= {"scheduler": checkpoint.config("scheduler"), "extra": checkpoint.extra()}
    if part == "text_encoder":
        about["tokenizer"] = describe_tokenizer(tokenizer)
    return torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)


class GraphFile:
    """One file of a save node; see `Source`.

    Args:
        path: the file.
        base: opens the checkpoint that parts which are not in the file come from, by its name; None: there is none.
        mmap: map weights from the file instead of reading them.

    Raises:
        CheckpointError: a damaged file, or parts are missing and there is no base.
    """

    def __init__(self, path: Path, base: Base | None = None, mmap: bool = False) -> None:
        self.path, self.mmap = path, mmap
        self._file = TensorFile(path)
        self._about = _abouts(self._file)
        missing = [part for part in PREFIXES if part not in self._about]
        name = _base(self._about)
        if missing and base is None:
            held, lacked = (" and ".join(parts) for parts in (self._about, missing))
            raise CheckpointError(
                f"{str(path)!r} holds the {held} only, not the {lacked}: choose it in 'Load aMUSEd', which takes the "
                f"rest from {name!r}."
            )
        self._others = base(name) if missing and base else None

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`."""
        if part == "scheduler" and "transformer" in self._about:
            return dict(self._about["transformer"]["scheduler"])
        return dict(self._about[part]["config"]) if part in self._about else self._other.config(part)

    def state(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        if part not in self._about:
            return self._other.state(part)
        names = self._names(part)
        tensors = self._file.read(names.values(), self.mmap)
        return {key: tensors[name] for key, name in names.items()}

    def layout(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        if part not in self._about:
            return self._other.layout(part)
        tensors = self._file.layout()
        return {key: tensors[name] for key, name in self._names(part).items()}

    def tokenizer(self) -> Any:
        """See `Source`."""
        if "text_encoder" not in self._about:
            return self._other.tokenizer()
        return read_tokenizer(self._about["text_encoder"]["tokenizer"], self.path)

    def extra(self) -> dict[str, Any]:
        """See `Source`; the name is the file's."""
        own = self._about["transformer"]["extra"] if "transformer" in self._about else self._other.extra()
        return {**own, "name": self.path.stem.rstrip("_")}

    @property
    def _other(self) -> Checkpoint:
        if self._others is None:  # A part is missing only where there is a base.
            raise CheckpointError(f"{str(self.path)!r} is not complete.")
        return self._others

    def _names(self, part: str) -> dict[str, str]:
        """Weight of a part -> its name in the file."""
        names = self._file.layout()
        prefix = "" if ABOUT in names else PREFIXES[part]
        # ComfyUI's text encoders have one weight more.
        own = (name for name in names if name.startswith(prefix) and name not in MARKS and name != "logit_scale")
        return {name.removeprefix(prefix): name for name in own}


def is_graph_file(path: Path) -> bool:
    """Whether a `.safetensors` file is one of a save node, with a part of an aMUSEd model in it."""
    return bool(MARKS & TensorFile(path).layout().keys())


def base_of(path: Path) -> str | None:
    """The name of what the other parts of a file come from; None where it has all, or is no file of a save node.

    Raises:
        CheckpointError: a damaged file.
    """
    if not path.is_file() or not is_graph_file(path):
        return None
    about = _abouts(TensorFile(path))
    return None if about.keys() == PREFIXES.keys() else _base(about)


def _base(about: dict[str, dict[str, Any]]) -> str:
    return str(next(iter(about.values()))["base"])


def _abouts(file: TensorFile) -> dict[str, dict[str, Any]]:
    """What a file says of its parts, in the order of `PREFIXES`."""
    found = {}
    try:
        for tensor in file.read(MARKS & file.layout().keys()).values():
            about = json.loads(bytes(tensor.tolist()))
            found[about["part"]] = about
            if about["part"] not in PREFIXES or not isinstance(about["config"], dict):
                raise ValueError(f"the part {about['part']!r} is unknown, or has no configuration")
            _ = about["base"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"What {str(file.path)!r} says of its aMUSEd parts cannot be read: {one_line(error)}."
        ) from error
    return {part: found[part] for part in PREFIXES if part in found}
