"""An encoded prompt: all that a transformer works out from a prompt, once instead of in every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .text import Text, TextEmbedding
from .transformer import Transformer

AESTHETIC_SCORE = 6.0


class EncodedPrompt:
    """What a transformer makes of one prompt at one size.

    Attributes:
        condition: the transformer's, of a single row.
        first_features: features [1,h,w,C] of the wholly masked grid, once a first step has needed them. They are the
            same for every seed.
    """

    def __init__(self, condition: Any) -> None:
        self.condition = condition
        self.first_features: Tensor | None = None


def encode_prompts(
    transformer: Transformer, text: Text, prompts: Sequence[str], width: int, height: int
) -> list[EncodedPrompt]:
    """Encodes prompts for pictures of `width` x `height` pixels, uncropped, of aesthetic score 6.

    On a CPU one by one, which is as fast: a prompt is then the same alone and beside others, to the last bit.
    """
    if len(prompts) > 1 and transformer.device.type == "cpu":
        return [encode_prompts(transformer, text, [prompt], width, height)[0] for prompt in prompts]
    device, dtype = transformer.device, transformer.dtype
    hidden, pooled = (part.to(device, dtype) for part in text.encode(prompts))
    micro = torch.tensor([[width, height, 0, 0, AESTHETIC_SCORE]], device=device)
    return encode_embeddings(transformer, TextEmbedding(hidden, pooled), micro)


def encode_embeddings(transformer: Transformer, text: TextEmbedding, micro: Tensor) -> list[EncodedPrompt]:
    """One encoded prompt for each row of `text`; `micro` [1,5] or [B,5]: width, height, crop top, crop left, score."""
    rows = len(text.hidden)
    condition = transformer.condition(text.hidden, text.pooled, micro.expand(rows, -1))
    return [EncodedPrompt(select_rows(condition, slice(i, i + 1))) for i in range(rows)]


def join_conditions(prompts: Sequence[EncodedPrompt]) -> Any:
    """The conditions of several rows as one; a view where all are the same prompt."""
    first, count = prompts[0], len(prompts)
    if all(prompt is first for prompt in prompts):
        return _map_tensors(lambda part: part.expand(count, *part.shape[1:]), first.condition)
    return _map_tensors(lambda *parts: torch.cat(parts), *(prompt.condition for prompt in prompts))


def select_rows(condition: Any, rows: slice) -> Any:
    """The condition of some rows of a batch."""
    return _map_tensors(lambda part: part[rows], condition)


def _map_tensors(function: Callable[..., Tensor], *conditions: Any) -> Any:
    """Applies `function` to the tensors that conditions of the same make have in the same place."""
    first = conditions[0]
    if isinstance(first, Tensor):
        return function(*conditions)
    parts = [_map_tensors(function, *items) for items in zip(*conditions, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
