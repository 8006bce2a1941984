"""What the U-ViT takes from the prompts of a run, kept from step to step on ComfyUI's own way."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from comfy.model_base import BaseModel
from torch import Tensor

from .. import compat
from ..sample import plain
from .transformer import HostTransformer


class Known(NamedTuple):
    """A condition, and what it was made of by whom."""

    uvit: HostTransformer
    prompt: tuple[Tensor, ...]
    condition: Any


class Conditions:
    """Those of the run that goes on. Prompts are recognised by their numbers: ComfyUI joins them anew in every step."""

    KEPT = 8

    def __init__(self) -> None:
        self._known: list[Known] = []

    def recall(self, model: BaseModel, prompt: tuple[Tensor, ...], options: dict[str, Any] | None) -> Any:
        """The condition of text, pooled and micro; None where hooks or other nodes may change the weights meanwhile."""
        if options is None or not compat.quickly(plain.is_steady, model, options):
            return None
        uvit = model.diffusion_model.select(options)
        for known in self._known:
            if known.uvit is uvit and all(map(torch.equal, known.prompt, prompt)):
                return known.condition
        found = Known(uvit, prompt, uvit.condition(*prompt))
        self._known = [*self._known, found][-self.KEPT :]
        return found.condition

    def clear(self) -> None:
        """Forgets everything."""
        self._known = []


def forget(patcher: Any) -> None:
    """Before a run and after it (`CallbacksMP.ON_PRE_RUN`, `ON_CLEANUP`): weights may change in between."""
    patcher.model.conditions.clear()
