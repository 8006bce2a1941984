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

    Changed weights, another attention function or another module empty it. Several threads may use it: the prompts and
    what they were encoded with are replaced as one.
    """

    SIZE = 8

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self._kept: tuple[Any, dict[tuple[str, int, int], EncodedPrompt]] = (None, {})

    def encode(
        self, transformer: Transformer, text: Text, prompts: Sequence[str], width: int, height: int
    ) -> list[EncodedPrompt]:
        """One encoded prompt for each of `prompts`, the same object for the same text; sizes in pixels."""
        # A quantized copy keeps copies of weights; it is another object when they change.
        source = (transformer, transformer.attend, weights_version(transformer), weights_version(text.module))
        known = self._known(source)
        keys = [(prompt, width, height) for prompt in prompts]
        chosen = {key: known.get(key) for key in keys}
        if new := [key for key, prompt in chosen.items() if prompt is None]:
            rows = encode_prompts(transformer, text, [prompt for prompt, *_ in new], width, height)
            chosen.update(zip(new, rows, strict=True))
        others = {key: prompt for key, prompt in self._known(source).items() if key not in chosen}
        self._kept = source, dict(list({**others, **chosen}.items())[-self.size :])
        return [chosen[key] for key in keys]

    def _known(self, source: Any) -> dict[tuple[str, int, int], EncodedPrompt]:
        kept, prompts = self._kept
        return prompts if kept == source else {}

    def clear(self) -> None:
        """Forgets every prompt."""
        self._kept = (None, {})
