"""Prompts that are longer than the text encoder: the tokens of `generate`, and a sentence on what is left out."""

from __future__ import annotations

import logging

import pytest
import torch

from amused_core import load_model
from tests.comfy import graphs

# 22 tokens fit the tiny encoder, one for each letter.
READ, LEFT = "abcdefghijklmnopqrst uv", "Then a Café, تفاحة"
LONG = f"{READ} {LEFT}"
SENTENCE = 'aMUSEd: The prompt is longer than the 22 tokens that the text encoder reads; left out is "{}".'


def said(caplog):
    """The warnings; transformers has one of its own, which is wrong here."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def encoded(comfy, loader, name, text):
    """CONDITIONING by one of the nodes that encode a prompt."""
    if name == "AmusedTextEncode":
        return graphs.prompts(comfy, loader, text)
    return comfy.node(name, clip=(loader, 1), text=text)


@pytest.mark.parametrize("name", ["AmusedTextEncode", "CLIPTextEncode"])
@pytest.mark.parametrize("text", [LONG, "x" * 23, "a red apple on a blue plate, " * 9])
def test_the_tokens_of_generate(comfy, start, name, text):
    """On the fast way and on ComfyUI's own."""
    loader, prompts, latent = start
    settings = {"steps": 6, "cfg": 3.0, "temperature": (2.0, 0.0), "seed": 3, "width": 32, "height": 32}
    want = load_model(comfy.models / "amused" / "tiny", device="cpu").generate(text, **settings).tokens
    positive = encoded(comfy, loader, name, text)
    empty = encoded(comfy, loader, "CLIPTextEncode", "")
    run = graphs.sample(comfy, loader, latent, prompts, positive=positive, negative=empty)
    assert torch.equal(graphs.tokens(comfy.run(run)), want)


@pytest.mark.parametrize("name", ["AmusedTextEncode", "CLIPTextEncode"])
def test_one_sentence_tells_what_is_left_out(comfy, start, name, caplog):
    with caplog.at_level(logging.WARNING):
        long = comfy.run(encoded(comfy, start[0], name, LONG))
        assert said(caplog) == [SENTENCE.format(LEFT)]
        caplog.clear()
        short = comfy.run(encoded(comfy, start[0], name, READ))
    assert said(caplog) == []
    assert long[0][0].shape == (1, 24, 32) and torch.equal(long[0][0], short[0][0])
    assert torch.equal(long[0][1]["pooled_output"], short[0][1]["pooled_output"])


def test_both_prompts_are_told(comfy, start, caplog):
    text = graphs.prompts(comfy, start[0], f"{READ} red", f"{READ} blue")
    comfy.run(text)
    assert said(caplog) == [SENTENCE.format("red"), SENTENCE.format("blue")]


def test_weights_count_within_the_limit(comfy, start, caplog):
    """They go with the tokens that are read; what is left out is told as the tokenizer spells it."""
    loader = start[0]
    texts = [f"({READ}:1.3) (left:1.2)", f"({READ}:1.3)", READ]
    weighted, same, plain = (comfy.run(encoded(comfy, loader, "CLIPTextEncode", text))[0][0] for text in texts)
    assert torch.equal(weighted, same) and not torch.equal(weighted, plain)
    assert said(caplog) == [SENTENCE.format("left")]


@pytest.mark.parametrize("length", [0, 1, 21, 22])
def test_what_fits_is_read_in_full(comfy, start, length, caplog):
    text = "x" * length
    clip = comfy.run((start[0], 1))
    ((*row,),) = clip.tokenize(text)["l"]
    ids = load_model(comfy.models / "amused" / "tiny", device="cpu").text.ids([text])[0].tolist()
    assert [token for token, _ in row] == ids and said(caplog) == []


def test_joined_prompts_are_read_in_full(comfy, start, caplog):
    """The way to more words: a row for each prompt."""
    parts = [encoded(comfy, start[0], "CLIPTextEncode", text) for text in (READ, LEFT)]
    joined = comfy.run(comfy.node("ConditioningConcat", conditioning_to=parts[0], conditioning_from=parts[1]))
    assert joined[0][0].shape == (1, 48, 32) and said(caplog) == []
