"""Telling whether a module's weights have changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def weights_version(module: nn.Module) -> tuple[Any, ...]:
    """What tells a module's weights apart from others, and from themselves after a change.

    Memory, torch's own count of changes in place, and one number of each tensor: edits through `.data` leave no other
    trace. Whoever edits single numbers through `.data` clears the caches (`AmusedModel.clear_caches`).
    """
    weights = [weight.detach() for weight in module.parameters()]
    versions = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    return versions, tuple(torch.stack([weight.reshape(-1)[0].float() for weight in weights]).tolist())
