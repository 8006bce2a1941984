"""Training of the small world: pretraining of the text encoder."""

from __future__ import annotations

import torch

from amused_core.sampling.step_generator import step_generator
from amused_core.small_world.scenes import captions
from amused_core.small_world.scenes.layout import Scene
from amused_core.small_world.training import text_encoder, tokens
from amused_core.small_world.training.networks import build_text_encoder
from amused_core.small_world.training.tokenizer import build_tokenizer
from tests.core.small_world.tiny_world import TINY_TEXT


def test_things_are_in_reading_order():
    cat, dog = (tokens.thing_index(name) for name in ("cat", "dog"))
    assert text_encoder.ordered_things(Scene.pair("cat", "left of", "dog", "red")) == [cat, dog]
    assert text_encoder.ordered_things(Scene.pair("cat", "right of", "dog", "red")) == [dog, cat]
    assert text_encoder.ordered_things(Scene.pair("cat", "below", "dog", "red")) == [dog, cat]
    assert text_encoder.ordered_things(Scene.single("cat", "red", "top left")) == [cat, -1]


def tiny_text_trainer(keep: float = 0.0) -> text_encoder.TextEncoderTrainer:
    tokenizer = build_tokenizer(captions.words())
    return text_encoder.TextEncoderTrainer(
        build_text_encoder(tokenizer, step_generator(0, 0), TINY_TEXT), tokenizer, keep=keep
    )


def test_reading_moves_the_padding_towards_the_marked_nouns():
    trainer = tiny_text_trainer()
    losses = [trainer.step(step, 1000, 8)["loss"] for step in range(60)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_reading_keeps_what_words_say():
    texts = ["a cat on a red background"]
    drifts = []
    for keep in (0.0, 10.0):
        trainer = tiny_text_trainer(keep)
        ids = text_encoder.tokenize(trainer.tokenizer, texts)
        before = trainer.encoder(ids, output_hidden_states=True).hidden_states[-2].detach()
        for step in range(30):
            trainer.step(step, 1000, 8)
        words = ids != trainer.tokenizer.eos_token_id
        drifts.append(
            (trainer.encoder(ids, output_hidden_states=True).hidden_states[-2] - before)[words].square().mean()
        )
    assert drifts[1] < 0.5 * drifts[0]


def test_right_padding_has_no_loss_and_swapped_padding_has():
    trainer = tiny_text_trainer()
    padding_loss, end = trainer.padding_loss, trainer.tokenizer.eos_token_id
    ids = text_encoder.tokenize(trainer.tokenizer, ["a cat left of a dog"])
    hidden = torch.zeros(1, ids.shape[1], 16)
    hidden[0, 0::2], hidden[0, 1::2] = (
        padding_loss.nouns[3] + padding_loss.marks[0],
        padding_loss.nouns[5] + padding_loss.marks[1],
    )
    loss, accuracy = padding_loss(hidden, ids, end, torch.tensor([[3, 5]]))
    assert loss == 0 and accuracy == 1
    loss, accuracy = padding_loss(hidden, ids, end, torch.tensor([[5, 3]]))
    assert loss > 0 and accuracy == 0
