"""ComfyUI's attention, as it was chosen there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.ldm.modules.attention as stock
import torch
from comfy.cli_args import args
from torch import Tensor

from .. import compat

Attention = Callable[..., Tensor]


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, options: dict[str, Any]) -> Tensor:
    """ComfyUI's own choice of attention, looked up in each call: other packs and flags replace it.

    `q` [B,N,C], `k` and `v` [B,M,C] -> [B,N,C].
    """
    function = prefer_torch_attention(stock.optimized_attention, stock.attention_sub_quad, q.device)
    if compat.takes_options(function):
        return function(q, k, v, heads, transformer_options=options)
    return function(q, k, v, heads)


def prefer_torch_attention(function: Attention, fallback: Attention, device: torch.device) -> Attention:
    """`function`, or torch's attention where that is only what ComfyUI falls back to on a CPU.

    torch's takes no more memory, is faster, and rounds as the core's does, so that a seed gives the same tokens with
    ComfyUI and without.
    """
    told = args.use_quad_cross_attention or args.use_split_cross_attention
    if device.type == "cpu" and function is fallback and not told:
        return stock.attention_pytorch
    return function
