"""Checkpoints of a training run: one safetensors file, replaced atomically, from which the run goes on exactly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write `data` so that a crash at any moment leaves the old file or the new one, never half of one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save_checkpoint(path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON-able `meta` as one safetensors file, atomically."""
    from safetensors.torch import save

    own = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(own, metadata={"meta": json.dumps(dict(meta))}))


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote: `(tensors, meta)`. Raises ValueError when the file is something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            meta = (file.metadata() or {}).get("meta")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"Cannot read the training checkpoint {str(path)!r}: {error}") from error
    if meta is None:
        raise ValueError(f"{str(path)!r} is not a training checkpoint: it holds weights but no training state.")
    return tensors, json.loads(meta)


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """The state dict of `module` with `prefix.` before every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def load_module(prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Undo `module_tensors`; raises RuntimeError (torch's own) when names or shapes differ."""
    module.load_state_dict(select(prefix, tensors))


def select(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries below `prefix.`, without it."""
    start = prefix + "."
    return {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}


def optimizer_tensors(prefix: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """The tensors of the optimizer's state as `prefix.<parameter index>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}.{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def load_optimizer(prefix: str, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `optimizer_tensors`; the parameter groups (learning rate and so on) stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in select(prefix, tensors).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
