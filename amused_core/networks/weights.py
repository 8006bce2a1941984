"""Telling whether a module's weights have changed, for everything that is kept because they have not."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

_changes: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def mark_changed(module: nn.Module) -> None:
    """Says that the weights of `module` have changed in a way that leaves no trace, such as edits through `.data`."""
    _changes[module] = _changes.get(module, 0) + 1


def weights_version(module: nn.Module) -> tuple[Any, ...]:
    """What tells a module's weights apart from others, and from themselves after a change.

    Calls of `mark_changed`, and what can be seen: the tensors' memory, torch's own count of changes in place, and one
    number of each, since edits through `.data` are not counted.
    """
    weights = [weight.detach() for weight in module.parameters()]
    versions = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    numbers = tuple(torch.stack([weight.reshape(-1)[0].float() for weight in weights]).tolist())
    return _changes.get(module, 0), versions, numbers
