"""The last few prompts of a model, so that a new seed starts from what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .encoded_prompt import EncodedPrompt, encode_prompts
from .text import Text
from .transformer import Transformer
from .weights import weights_version


class PromptCache:
    """The last `size` encoded prompts by text and size in pixels.

    Changed weights, another attention function or another module empty it.
    """

    SIZE = 8

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self._prompts: dict[tuple[str, int, int], EncodedPrompt] = {}
        self._source: Any = None

    def encode(
        self, transformer: Transformer, text: Text, prompts: Sequence[str], width: int, height: int
    ) -> list[EncodedPrompt]:
        """One encoded prompt for each of `prompts`, the same object for the same text; sizes in pixels."""
        # A quantized copy keeps copies of weights; it is another object when they change.
        source = (transformer, transformer.attend, weights_version(transformer), weights_version(text.module))
        if source != self._source:
            self._prompts, self._source = {}, source
        keys = [(prompt, width, height) for prompt in prompts]
        new = [key for key in dict.fromkeys(keys) if key not in self._prompts]
        if new:
            rows = encode_prompts(transformer, text, [prompt for prompt, *_ in new], width, height)
            self._prompts.update(zip(new, rows, strict=True))
        chosen = {key: self._prompts[key] for key in keys}
        others = {key: prompt for key, prompt in self._prompts.items() if key not in chosen}
        self._prompts = dict(list({**others, **chosen}.items())[-self.size :])
        return [chosen[key] for key in keys]

    def clear(self) -> None:
        """Forgets every prompt."""
        self._prompts, self._source = {}, None
