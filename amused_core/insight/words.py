"""Which tokens of a prompt make up a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import AmusedError, quoted

END = "</w>"


def words_of(tokenizer: Any, ids: Sequence[Any]) -> tuple[str, ...]:
    """The word that each token belongs to, "" for special tokens and for what is no token id (textual inversion).

    Args:
        tokenizer: a CLIP tokenizer of transformers; its last token of a word ends in "</w>".
        ids: token ids of a prompt, padded or not.
    """
    special = set(tokenizer.all_special_ids)
    words: list[str] = []
    pieces: list[str] = []
    for value in ids:
        if not isinstance(value, int) or value in special:
            words += [""] * (len(pieces) + 1)
            pieces = []
            continue
        pieces.append(tokenizer.convert_ids_to_tokens(value))
        if pieces[-1].endswith(END):
            words += [_text(pieces)] * len(pieces)
            pieces = []
    return (*words, *([""] * len(pieces)))


def pack(words: Sequence[str]) -> Tensor:
    """Two words or more as a tensor that can go with a prompt: uint8 of UTF-8, with a 0 between two words."""
    return torch.frombuffer(bytearray("\0".join(words).encode()), dtype=torch.uint8)


def unpack(packed: Tensor) -> tuple[str, ...]:
    """The words that `pack` made a tensor of."""
    return tuple(bytes(packed.tolist()).decode().split("\0"))


def positions(words: Sequence[str], word: str) -> list[int]:
    """Where `word` stands in the prompt, every time it does: indices of its tokens.

    Case and spaces do not count, so that "Red Apple" finds the tokens of both words.

    Args:
        words: of each token, as `words_of` gives them.
        word: one word, or several that stand together.

    Raises:
        AmusedError: it is not in the prompt.
    """
    if not isinstance(word, str):
        raise AmusedError(f"word is {quoted(word)}; allowed is a text.")
    wanted = "".join(word.lower().split())
    starts = _starts(words)
    found = [place for index in range(len(starts)) if wanted for place in _match(words, starts[index:], wanted)]
    if not found:
        known = ", ".join(dict.fromkeys(words[start] for start, _ in starts))
        raise AmusedError(f"The word {quoted(word)} is not in the prompt; its words are: {known or 'none'}.")
    return found


def _text(pieces: list[str]) -> str:
    """The word that pieces in CLIP's byte alphabet spell (GPT-2's: bytes that cannot be printed begin at U+0100)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in plain]
    letters = {chr(value): value for value in plain} | {chr(256 + place): value for place, value in enumerate(others)}
    spelled = "".join(pieces).removesuffix(END)
    if not letters.keys() >= set(spelled):
        return spelled
    return bytes(letters[letter] for letter in spelled).decode("utf-8", "replace")


def _starts(words: Sequence[str]) -> list[tuple[int, int]]:
    """(first, end) of the tokens of each word; the same word twice in a row counts as one."""
    spans: list[tuple[int, int]] = []
    for index, word in enumerate(words):
        if not word:
            continue
        if spans and spans[-1][1] == index and words[index - 1] == word:
            spans[-1] = (spans[-1][0], index + 1)
        else:
            spans.append((index, index + 1))
    return spans


def _match(words: Sequence[str], spans: list[tuple[int, int]], wanted: str) -> list[int]:
    """The tokens of the words from the first of `spans` on, where they spell `wanted`."""
    places: list[int] = []
    for first, end in spans:
        text = words[first].lower()
        if not text or not wanted.startswith(text):
            return []
        wanted = wanted[len(text) :]
        places += range(first, end)
        if not wanted:
            return places
    return []
