"""The state of a training run: one `.safetensors` file, always whole, from which the run goes on exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import AmusedError
from .tensors import read_tensors
from .writing import write_tensors


def save_state(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], key: str = "meta") -> None:
    """Writes tensors, and what JSON can hold as the metadata entry `key`, which names the kind of run."""
    write_tensors(path, tensors, {key: json.dumps(dict(about))})


def load_state(path: Path, key: str = "meta") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save_state` wrote.

    Raises:
        AmusedError: damaged, or another kind of file.
    """
    tensors, metadata = read_tensors(path)
    if key not in metadata:
        raise AmusedError(f"{str(path)!r} holds no training state; allowed is what a run of the same kind wrote there.")
    return tensors, json.loads(metadata[key])


def add_prefix(prefix: str, tensors: Mapping[str, Tensor] | Sequence[Tensor]) -> dict[str, Tensor]:
    """The entries as `prefix.<name>`; those of a list as `prefix.0`, `prefix.1`, ...."""
    named = tensors if isinstance(tensors, Mapping) else dict(enumerate(tensors))
    return {f"{prefix}.{name}": tensor for name, tensor in named.items()}


def below_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries whose names begin with `prefix.`, without it: the inverse of `add_prefix`."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def module_tensors(**modules: nn.Module) -> dict[str, Tensor]:
    """The state dicts of all `modules`, their names as prefixes."""
    states = [add_prefix(prefix, module.state_dict()) for prefix, module in modules.items()]
    return {name: tensor for state in states for name, tensor in state.items()}


def load_modules(tensors: Mapping[str, Tensor], **modules: nn.Module) -> None:
    """Undoes `module_tensors`; raises torch's own RuntimeError where names or shapes differ."""
    for prefix, module in modules.items():
        module.load_state_dict(below_prefix(prefix, tensors))


def optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Its tensors as `optimizer.<parameter>.<name>`, and the plain numbers of 8-bit ones as `<parameter>.<name>`."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for index, entry in optimizer.state_dict()["state"].items():
        for name, value in entry.items():
            target: dict[str, Any] = tensors if isinstance(value, Tensor) else numbers
            target[f"{index}.{name}"] = value
    return add_prefix("optimizer", tensors), numbers


def restore_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, float] | None = None
) -> None:
    """Undoes `optimizer_state`, from all tensors of a run; learning rates and the like stay as they are."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**below_prefix("optimizer", tensors), **(numbers or {})}.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@torch.no_grad()
def copy_into(targets: Sequence[Tensor], prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Copies what `add_prefix` named of a list into `targets`.

    Raises:
        AmusedError: another number of tensors, or other shapes.
    """
    values = below_prefix(prefix, tensors)
    shapes = [list(values[str(i)].shape) if str(i) in values else None for i in range(len(targets))]
    if len(values) != len(targets) or shapes != [list(target.shape) for target in targets]:
        raise AmusedError(f"The state holds {len(values)} {prefix} tensors of another model; start in another folder.")
    for index, target in enumerate(targets):
        target.copy_(values[str(index)])
