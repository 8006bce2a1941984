"""Prompts to embeddings: a thin wrapper around transformers' CLIP text encoder."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .threads import sleeping_threads

SHOWN = 2000  # characters of what is left out
logger = logging.getLogger(__name__)


class TextEmbedding(NamedTuple):
    """What the U-ViT is told: `hidden` [B,L,D] (penultimate layer) and `pooled` [B,P] (projected)."""

    hidden: Tensor
    pooled: Tensor

    def expand(self, batch: int) -> TextEmbedding:
        """One row becomes `batch` rows; as many rows as `batch` stay."""
        return TextEmbedding(self.hidden.expand(batch, -1, -1), self.pooled.expand(batch, -1))


class Text:
    """Tokenizer and text encoder of a checkpoint.

    Args:
        module: transformers' `CLIPTextModelWithProjection`.
        tokenizer: its tokenizer; prompts are cut at `model_max_length`.
    """

    def __init__(self, module: Any, tokenizer: Any) -> None:
        self.module = module
        self.tokenizer = tokenizer

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], device: torch.device | None = None) -> TextEmbedding:
        """Embeds prompts as diffusers' aMUSEd pipelines do: padded to full length, penultimate hidden states.

        `device` is where the ids go; None is where the weights are (offloading hooks may bring them later).
        """
        ids = self.ids(prompts).to(self.module.device if device is None else device)
        return embed(self.module, ids)

    def ids(self, prompts: Sequence[str]) -> Tensor:
        """Token ids int64 [B,L], cut at the encoder's length and padded to it."""
        return self.tokenizer(list(prompts), return_tensors="pt", **self._settings()).input_ids

    def left_out(self, prompt: str) -> str:
        """The end of a prompt that the encoder does not read; "" where it reads all of it."""
        if not self.tokenizer.is_fast:
            ids = self.tokenizer(prompt, verbose=False).input_ids
            return self.tokenizer.decode(ids[self.limit - 1 : -1])
        # The settings of `ids`: to change them would be felt by other threads.
        parts = self.tokenizer(prompt, return_overflowing_tokens=True, return_offsets_mapping=True, **self._settings())[
            "offset_mapping"
        ]
        return "" if len(parts) == 1 else prompt[parts[1][1][0] :]

    def warn_of_cuts(self, prompts: Sequence[str]) -> None:
        """Logs what is left out of each prompt that is longer than the encoder reads."""
        for prompt in dict.fromkeys(prompts):
            if words := self.left_out(prompt):
                logger.warning("%s", cut(words, self.limit))

    @property
    def limit(self) -> int:
        """Tokens of a prompt, its begin and end among them."""
        return min(self.tokenizer.model_max_length, self.module.config.max_position_embeddings)

    def _settings(self) -> dict[str, Any]:
        return {"padding": "max_length", "truncation": True, "max_length": self.limit}


def embed(module: Any, ids: Tensor) -> TextEmbedding:
    """What a `CLIPTextModelWithProjection` makes of token ids int64 [B,L].

    The penultimate hidden states are seen on their way into the last layer: transformers' own `output_hidden_states`
    leaves hooks behind that cannot be pickled.
    """
    last = module.text_model.encoder.layers[-1]
    if _see not in last._forward_pre_hooks.values():
        last.register_forward_pre_hook(_see, with_kwargs=True)
    with sleeping_threads():
        pooled = module(ids, output_hidden_states=False).text_embeds
    return TextEmbedding(_seen.pop(), pooled)


class _Seen(threading.local):
    """What the last layer was last given, in each thread: several may draw with one model."""

    def __init__(self) -> None:
        self._hidden: Tensor | None = None

    def put(self, hidden: Tensor) -> None:
        self._hidden = hidden

    def pop(self) -> Tensor:
        hidden, self._hidden = self._hidden, None
        return hidden


_seen = _Seen()


def _see(layer: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    _seen.put(given[0] if given else named["hidden_states"])


def cut(words: str, limit: int) -> str:
    """The sentence on `words` that an encoder of `limit` tokens leaves out."""
    words = " ".join(words.split())
    shown = words if len(words) <= SHOWN else f"{words[:SHOWN]} ..."
    return f'The prompt is longer than the {limit - 2} tokens that the text encoder reads; left out is "{shown}".'
