"""Prompts to embeddings: a thin wrapper around transformers' CLIP text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


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
        output = self.module(ids, output_hidden_states=True)
        return TextEmbedding(output.hidden_states[-2], output.text_embeds)

    def ids(self, prompts: Sequence[str]) -> Tensor:
        """Token ids int64 [B,L], cut at the encoder's length and padded to it."""
        limit = min(self.tokenizer.model_max_length, self.module.config.max_position_embeddings)
        settings = {"padding": "max_length", "truncation": True, "max_length": limit}
        return self.tokenizer(list(prompts), return_tensors="pt", **settings).input_ids
