"""Prompts to token ids: ComfyUI's weights and embeddings, cut at the text encoder's length as in the core."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from comfy.sd1_clip import SD1Tokenizer, SDTokenizer
from torch import Tensor

from ....amused_core.checkpoint import Checkpoint
from ....amused_core.checkpoint.graph_file import ABOUT, describe
from ....amused_core.networks.text import cut
from ..load import folders

# Longer than any prompt: the base class would go on in another row.
UNLIMITED = 2**31
logger = logging.getLogger(__name__)


class TokenizerProxy:
    """Hands a tokenizer that is already there to ComfyUI, which wants to read one from a folder.

    It takes texts of any length without a word: what is cut, we say ourselves.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def from_pretrained(self, path: str, **kwargs: Any) -> TokenizerProxy:
        """This, whatever `path` says."""
        return self

    def __call__(self, text: str, **settings: Any) -> Any:
        """See transformers' `PreTrainedTokenizerBase`."""
        return self._tokenizer(text, verbose=False, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class PromptTokenizer(SDTokenizer):
    """ComfyUI's, for one row of `max_length` tokens: what is left out is logged.

    ComfyUI would read a longer prompt in several rows, which neither the model has seen nor `generate` does.

    Args:
        max_length: tokens of a row.
        checkpoint: what the tokenizer came from.
    """

    def __init__(self, max_length: int, checkpoint: Checkpoint, **kwargs: Any) -> None:
        super().__init__(max_length=UNLIMITED, pad_to_max_length=False, **kwargs)
        self.limit, self.checkpoint = max_length, checkpoint

    def state_dict(self) -> dict[str, Tensor]:
        """What is saved with the text encoder's weights: what `GraphFile` reads them with."""
        base = folders.name_of(self.checkpoint.path)
        return {f"clip_l.{ABOUT}": describe("text_encoder", self.checkpoint, base, self.tokenizer)}

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> list[list[tuple]]:
        """One row of (id or vector, weight), and the number of the word where wanted."""
        ((start, *tokens, end),) = super().tokenize_with_weights(text, True, **kwargs)
        room = self.limit - 2
        if len(tokens) > room:
            logger.warning("aMUSEd: %s", cut(self._end(text, [token for token, *_ in tokens], room), self.limit))
        row = [start, *tokens[:room], end]
        row += [(self.pad_token, 1.0, 0)] * (self.limit - len(row))
        return [row if return_word_ids else [entry[:2] for entry in row]]

    def _end(self, text: str, tokens: list[Any], room: int) -> str:
        """The words of the tokens from `room` on: as they were written, or as the tokenizer spells them."""
        plain = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if plain["input_ids"] == tokens:
            return text[plain["offset_mapping"][room][0] :]
        return self.tokenizer.decode([token for token in tokens[room:] if isinstance(token, int)])


def tokenizer_class(tokenizer: Any, config: dict[str, Any], checkpoint: Checkpoint) -> partial[SD1Tokenizer]:
    """What `comfy.sd.CLIP` makes its tokenizer of; `config` is the text encoder's."""
    inner = partial(
        PromptTokenizer,
        checkpoint=checkpoint,
        tokenizer_class=TokenizerProxy(tokenizer),
        max_length=min(tokenizer.model_max_length, config["max_position_embeddings"]),
        pad_token=tokenizer.pad_token_id,
        embedding_size=config["hidden_size"],
    )
    return partial(SD1Tokenizer, tokenizer=inner)
