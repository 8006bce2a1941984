"""Training of the small world: the tokenizer."""

from __future__ import annotations

import pytest

from amused_core.sampling.step_generator import step_generator
from amused_core.small_world.scenes import captions
from amused_core.small_world.scenes.splits import random_scene
from amused_core.small_world.training.tokenizer import MAX_LENGTH, build_tokenizer, save_tokenizer


def test_every_caption_word_is_one_token_and_captions_fit():
    tokenizer = build_tokenizer(captions.words())
    for word in captions.words():
        if word.isalpha():  # CLIP's tokenizer takes digits and punctuation apart
            assert len(tokenizer(word).input_ids) == 3, word
    generator = step_generator(0, 4)
    texts = [captions.caption(random_scene(generator), generator, noise=0.0) for _ in range(1000)]
    assert max(map(len, tokenizer(texts).input_ids)) <= MAX_LENGTH
    assert tokenizer("A RED Apple").input_ids == tokenizer("a red apple").input_ids
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (len(tokenizer) - 2, len(tokenizer) - 1)


@pytest.mark.parametrize("text", ["تفاحة حمراء", "りんご 🍎", "", "naïve \u0301\u200d\U0001f9d1", "\x00\x7f"])
def test_any_text_encodes_from_the_saved_files(text, tmp_path):
    from transformers import CLIPTokenizerFast

    tokenizer = build_tokenizer(captions.words())
    save_tokenizer(tokenizer, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"):
        assert (tmp_path / name).stat().st_size > 0
    again = CLIPTokenizerFast.from_pretrained(tmp_path)
    ids = again(text, padding="max_length", truncation=True).input_ids
    assert ids == tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(ids) == MAX_LENGTH and max(ids) < len(tokenizer)
