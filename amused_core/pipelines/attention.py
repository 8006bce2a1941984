"""diffusers' xformers switch, for our U-ViT."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..networks.attention import Attend, choose_attention
from .shared import shared_uvit


class XformersSwitch:
    """Overrides what `enable_` and `disable_xformers_memory_efficient_attention` of a diffusers pipeline call."""

    _xformers = False
    _xformers_op: Any = None

    def set_use_memory_efficient_attention_xformers(self, valid: bool, attention_op: Callable | None = None) -> None:
        """Switches xformers on or off; `attention_op` is handed to `memory_efficient_attention`.

        Raises:
            AttentionError: (a ValueError) xformers is missing or has no kernel for the device.
        """
        if valid:
            device = self._execution_device
            # It may be switched on before the pipeline is moved, as diffusers allows.
            choose_attention("xformers", "cuda" if device.type == "cpu" and torch.cuda.is_available() else device)
        if shared_uvit(self.transformer) is None:
            super().set_use_memory_efficient_attention_xformers(valid, attention_op)
        self._xformers, self._xformers_op = valid, attention_op if valid else None

    def _attend(self) -> Attend:
        """The attention function of a call, checked on the device it is to run on."""
        attend = choose_attention("xformers" if self._xformers else "sdpa", self._execution_device)
        return attend if self._xformers_op is None else partial(attend, op=self._xformers_op)
