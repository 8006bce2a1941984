"""Attention backends of the U-ViT. Each is a function `attend(q, k, v, heads, name, options)`."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import AttentionError, quoted

BACKENDS = ("auto", "sdpa", "xformers")
# Where the options of a pass hold an `AttentionObserver`.
OBSERVER = "amused_attention_observer"
# Where they hold the slice of a step's rows that the pass is of, if there is an observer.
ROWS = "amused_rows"


class Attend(Protocol):
    """Multi-head attention: `q` [B,N,C], `k` and `v` [B,M,C] -> [B,N,C], with C split over `heads`.

    `name` is the attention's place in its block ("attn1" or "attn2"); `options` is what the caller gave to
    `UVit.forward`, for hosts that patch single attentions.
    """

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, heads: int, name: str, options: dict[str, Any]) -> Tensor:
        """See the class."""


class AttentionObserver(Protocol):
    """Sees every attention to the text: `q` [B,N,C] of the cells, `k` [B,L,C] of the text, C split over `heads`.

    `options` are those of the pass. A step may take several passes, each with some of its B rows: `options[ROWS]` is
    their slice. In a guided step the rows of the negative prompt come first.
    """

    def __call__(self, q: Tensor, k: Tensor, heads: int, options: dict[str, Any]) -> None:
        """See the class."""


def sdpa(q: Tensor, k: Tensor, v: Tensor, heads: int, name: str, options: dict[str, Any]) -> Tensor:
    """PyTorch's `scaled_dot_product_attention`."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def xformers(q: Tensor, k: Tensor, v: Tensor, heads: int, name: str, options: dict[str, Any], op: Any = None) -> Tensor:
    """xformers' `memory_efficient_attention`; `op` is one of its kernels, None its own choice."""
    from xformers.ops import memory_efficient_attention

    q, k, v = (x.unflatten(-1, (heads, -1)).contiguous() for x in (q, k, v))
    return memory_efficient_attention(q, k, v, op=op).flatten(2)


def choose_attention(name: str, device: torch.device | str) -> Attend:
    """The backend called `name` for `device`; "auto" takes xformers on CUDA where it runs, SDPA elsewhere.

    Raises:
        AttentionError: `name` is unknown, or xformers is asked for where it cannot run.
    """
    if not isinstance(name, str) or name not in BACKENDS:
        raise AttentionError(f"Attention {quoted(name)} is unknown; allowed are {', '.join(BACKENDS)}.")
    device = torch.device(device)
    if name == "sdpa" or (name == "auto" and device.type != "cuda"):
        return sdpa
    problem = _xformers_problem(device)
    if problem is None:
        return xformers
    if name == "auto":
        return sdpa
    raise AttentionError(f"Attention 'xformers' cannot run: {problem} Use 'sdpa' or 'auto' instead.")


def _xformers_problem(device: torch.device) -> str | None:
    """Why xformers cannot run on `device`, found by trying it, or None when it can."""
    try:
        from xformers.ops import memory_efficient_attention
    except (ImportError, OSError, RuntimeError) as error:
        return f"the package does not import ({_first_line(error)})."
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    probe = torch.zeros(1, 8, 1, 32, device=device, dtype=dtype)
    try:
        memory_efficient_attention(probe, probe, probe)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        return f"it has no kernel for the device {str(device)!r} ({_first_line(error)})."
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
