"""A checkpoint in one line."""

from __future__ import annotations

from ..checkpoint import Checkpoint
from .configs import published_name
from .weights import PARTS, dtype_names


def short_form(checkpoint: Checkpoint) -> str:
    """The checkpoint in one line, from configs and headers alone."""
    sizes = published_name(checkpoint)
    like = f"the sizes of {sizes}" if sizes else "sizes of its own"
    tensors = [tensor for part in PARTS for tensor in checkpoint.layout(part).values()]
    return (
        f"{checkpoint.name}: {checkpoint.family.name} with {like}, {sum(t.numel() for t in tensors):,} parameters in "
        f"{dtype_names(t.dtype for t in tensors)}"
    )
