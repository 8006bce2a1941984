"""The text tokenizer of the embedded model: CLIP's byte-level BPE, with merges learnt from the captions' words."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_LENGTH = 32
_START, _END = "<|startoftext|>", "<|endoftext|>"
_SUFFIX = "</w>"
SPECIAL = {"bos_token": _START, "eos_token": _END, "pad_token": _END, "unk_token": _END}


def _bytes_alphabet() -> list[str]:
    """The 256 printable stand-ins that byte-level BPE uses for the bytes, in byte order (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """BPE merges after which every one of the ASCII `words` is one token; the most frequent pair first."""
    pieces = [[*word[:-1], word[-1] + _SUFFIX] for word in words]
    merges: list[tuple[str, str]] = []
    while True:
        counts: dict[tuple[str, str], int] = {}
        for piece in pieces:
            for pair in itertools.pairwise(piece):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            return merges
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        pieces = [_merge(piece, best) for piece in pieces]


def _merge(piece: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    index = 0
    while index < len(piece):
        if tuple(piece[index : index + 2]) == pair:
            merged.append(piece[index] + piece[index + 1])
            index += 2
        else:
            merged.append(piece[index])
            index += 1
    return merged


def build_tokenizer(words: Sequence[str]) -> Any:
    """transformers' `CLIPTokenizer` for `words`; any other text falls apart into bytes, so everything encodes."""
    from transformers import CLIPTokenizerFast

    merges = learn_merges(words)
    alphabet = _bytes_alphabet()
    symbols = alphabet + [letter + _SUFFIX for letter in alphabet] + [left + right for left, right in merges]
    vocabulary = {symbol: index for index, symbol in enumerate([*dict.fromkeys(symbols), _START, _END])}
    # Through files: the constructor's arguments differ between transformers 4 and 5, the files do not.
    with tempfile.TemporaryDirectory() as folder:
        _write_words(Path(folder), vocabulary, [" ".join(pair) for pair in merges])
        return CLIPTokenizerFast.from_pretrained(folder, model_max_length=MAX_LENGTH, **SPECIAL)


def save_tokenizer(tokenizer: Any, folder: str | Path) -> None:
    """Write all files that any version of transformers looks for (its version 5 writes only two of them)."""
    folder = Path(folder)
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    _write_words(folder, model["vocab"], merges)
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIAL, indent=2), encoding="utf-8")


def _write_words(folder: Path, vocabulary: dict[str, int], merges: list[str]) -> None:
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
