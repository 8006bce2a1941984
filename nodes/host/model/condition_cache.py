"""What the U-ViT takes from the prompts of a run, kept from step to step on the stock path."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from comfy.model_base import BaseModel
from torch import Tensor

from .. import compat
from ..sample import plain
from .transformer import HostTransformer


class CachedCondition(NamedTuple):
    """A condition, and what it was made of by whom."""

    uvit: HostTransformer
    prompt: tuple[Tensor, ...]
    condition: Any


class ConditionCache:
    """Those of the run that goes on. Prompts are recognised by their numbers: ComfyUI joins them anew in every step."""

    SIZE = 8

    def __init__(self) -> None:
        self._cached: list[CachedCondition] = []

    def get(self, model: BaseModel, prompt: tuple[Tensor, ...], options: dict[str, Any] | None) -> Any:
        """The condition of text, pooled and micro; None where hooks or other nodes may change the weights meanwhile."""
        if options is None or not compat.try_fast_path(plain.is_steady, model, options):
            return None
        uvit = model.diffusion_model.select(options)
        for cached in self._cached:
            if cached.uvit is uvit and all(map(torch.equal, cached.prompt, prompt)):
                return cached.condition
        new = CachedCondition(uvit, prompt, uvit.condition(*prompt))
        self._cached = [*self._cached, new][-self.SIZE :]
        return new.condition

    def clear(self) -> None:
        """Forgets everything."""
        self._cached = []


def clear_conditions(patcher: Any) -> None:
    """Before a run and after it (`CallbacksMP.ON_PRE_RUN`, `ON_CLEANUP`): weights may change in between."""
    patcher.model.condition_cache.clear()
