"""Prompts in any script and of any length."""

from __future__ import annotations

import pytest
import torch

from amused_core import AmusedModel

PROMPTS = {
    "empty": "",
    "spaces": "    ",
    "lines": "\n\t\r\n",
    "arabic": "تفاحة حمراء على خلفية زرقاء",
    "chinese": "蓝色背景上的红苹果",
    "hindi": "नीली पृष्ठभूमि पर लाल सेब",
    "emoji": "🍎👩‍👩‍👧‍👦🏳️‍🌈",
    "combining": "Z̸͙̾a̷̛͎l̶̰͋g̸̱̈́o̶͚͝",
    "right-to-left mark": "\u202ea red apple\u202c",
    "nul": "a\0red\0apple",
    "control": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "special tokens": "<|startoftext|><|endoftext|><|endoftext|>",
    "noncharacter": "\ufffe\uffff\U0010ffff",
    "byte order mark": "\ufeffapple",
    "percent": "100%s {0} {prompt} $HOME `ls` \\n",
    "5000 words": "apple " * 5000,
    "one long word": "a" * 100_000,
    "lone surrogate": "apple \ud83c tree",
    "invalid utf-8 of a command line": "caf\udce9",
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_any_prompt(model: AmusedModel, prompt: str) -> None:
    result = model.generate(prompt, negative_prompt=prompt[::-1], steps=2, cfg=3.0)
    assert torch.isfinite(result.images).all()
    together = model.generate(["a cat", prompt], negative_prompt=prompt[::-1], steps=2, cfg=3.0, seed=[1, 0])
    assert torch.equal(together.tokens[1:], result.tokens)


def test_a_long_prompt_is_cut_at_the_encoders_limit(model: AmusedModel) -> None:
    long = model.text.encode(["abcdefghij" * 3])
    longer = model.text.encode(["abcdefghij" * 3 + " and nothing of this"])
    assert long.hidden.shape == (1, 24, 32)
    assert torch.equal(long.hidden, longer.hidden) and torch.equal(long.pooled, longer.pooled)


def test_the_prompt_matters(model: AmusedModel) -> None:
    pair = model.generate(["a cat", "تفاحة"], seed=[3, 3], steps=4).tokens
    assert not torch.equal(pair[0], pair[1])


def test_the_negative_prompt_matters_only_with_guidance(model: AmusedModel) -> None:
    def tokens(negative: str, cfg: float) -> torch.Tensor:
        return model.generate("a cat", negative_prompt=negative, cfg=cfg, steps=4).tokens

    assert torch.equal(tokens("x", 1.0), tokens("y", 1.0))
    assert not torch.equal(tokens("x", 5.0), tokens("y", 5.0))
