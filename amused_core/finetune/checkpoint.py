"""Files that are whole at any moment: written beside themselves, flushed to the disk, then put in place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..errors import AmusedError
from ..files.tensors import read_tensors

META = "amused_training"


def put(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` fill a file beside `path` that then takes its place: a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    write(beside)
    beside.chmod(0o644)  # safetensors lets only the owner read
    with open(beside, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)


def put_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    put(path, lambda beside: beside.write_text(text, encoding="utf-8", newline="\n"))


def put_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a `.safetensors` file whole."""
    from safetensors.torch import save_file

    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    put(path, lambda beside: save_file(own, str(beside), metadata=dict(metadata)))


def put_state(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes the state of a run: tensors, and what JSON can hold."""
    put_tensors(path, tensors, {META: json.dumps(dict(about))})


def get_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `put_state` wrote.

    Raises:
        AmusedError: damaged, or another kind of file.
    """
    tensors, metadata = read_tensors(path)
    if META not in metadata:
        raise AmusedError(
            f"{str(path)!r} is no state of a fine-tuning run; allowed is what 'amused train' wrote there."
        )
    return tensors, json.loads(metadata[META])


def optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The state as tensors and plain numbers (which 8-bit optimizers have), by `<parameter>.<name>`."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for index, entry in optimizer.state_dict()["state"].items():
        for name, value in entry.items():
            where: dict[str, Any] = tensors if isinstance(value, Tensor) else numbers
            where[f"{index}.{name}"] = value
    return tensors, numbers


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]) -> None:
    """Undoes `optimizer_state`; learning rates and the like stay as they are."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries whose names begin with `prefix.`, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def numbered(prefix: str, tensors: list[Tensor]) -> dict[str, Tensor]:
    """A list as `prefix.0`, `prefix.1`, ...."""
    return {f"{prefix}.{index}": tensor for index, tensor in enumerate(tensors)}


@torch.no_grad()
def fill(targets: list[Tensor], prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Copies what `numbered` named into `targets`.

    Raises:
        AmusedError: another number of tensors, or other shapes.
    """
    found = below(prefix, tensors)
    shapes = [list(found[str(i)].shape) if str(i) in found else None for i in range(len(targets))]
    if len(found) != len(targets) or shapes != [list(target.shape) for target in targets]:
        raise AmusedError(f"The state holds {len(found)} {prefix} tensors of another model; start in another folder.")
    for index, target in enumerate(targets):
        target.copy_(found[str(index)])
