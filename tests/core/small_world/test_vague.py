"""Vague captions and the training on them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from amused_core.sampling.step_generator import step_generator
from amused_core.small_world.scenes.captions import caption
from amused_core.small_world.scenes.layout import Scene
from amused_core.small_world.scenes.splits import held_out
from amused_core.small_world.scenes.things import BACKGROUNDS, COLOURED, KINDS, THINGS
from amused_core.small_world.scenes.vague import EVERYTHING, Answers, vague_caption
from amused_core.small_world.training.networks import ModelConfig
from amused_core.small_world.training.vague import KeptText, VagueTrainer, teach_text_encoder
from tests.core.small_world.tiny_world import TINY_TEXT, TINY_TRANSFORMER, tiny_tokens


def test_kinds_name_things() -> None:
    names = {thing.name for thing in THINGS}
    groups = [kind.things for kind in KINDS] + list(COLOURED.values())
    assert all(len(set(group)) == len(group) >= 5 and set(group) <= names for group in groups)
    assert {kind.name for kind in KINDS} >= {"animal", "fruit", "vehicle"}


def test_vague_captions_say_what_their_answers_have_in_common() -> None:
    generator = step_generator(0, 0)
    sizes = []
    for _ in range(1500):
        text, answers = vague_caption(generator, noise=0.0)
        scene = answers.draw(generator)
        assert answers.match(scene) == scene and not held_out(scene)
        assert "  " not in text and "{" not in text
        if text:
            named = [name for name in BACKGROUNDS if name in text.replace("grey", "gray")]
            assert len(answers.backgrounds) == 10 or set(answers.backgrounds) <= set(named), text
        else:
            assert answers == EVERYTHING
        sizes.append(sum(1 for _ in answers.scenes()) if answers != EVERYTHING else 0)
    assert sizes.count(0) in range(60, 200), "one in twelve is empty"
    assert sum(size == 1 for size in sizes) < 150, "nearly all leave something open"


def test_answers_are_drawn_evenly_and_never_held_out() -> None:
    answers = Answers(
        (("cat", "dog"), ("cat", "dog", "key")), (("left", "right"), ("above", "below")), ("white", "blue")
    )
    scenes = [scene for scene in answers.scenes() if not held_out(scene)]
    assert all(len(set(scene.things)) == 2 for scene in scenes)
    generator = step_generator(0, 1)
    draws = [answers.draw(generator) for _ in range(1000)]
    assert set(draws) == set(scenes)
    counts = torch.tensor([draws.count(scene) for scene in scenes]).float()
    expected = 1000 / len(scenes)
    chi_square = float((counts - expected).square().sum() / expected)
    assert chi_square < 2.5 * len(scenes)
    shares = answers.choices()["first thing"]
    drawn = sum(scene.things[0] == "cat" for scene in draws) / 1000
    assert shares["cat"] == pytest.approx(drawn, abs=0.05)


@pytest.fixture
def folder(tmp_path):
    """Tiny weights in diffusers' layout, as far as training reads them."""
    trainer = tiny_vague(seed=9)
    for part, module, file in (
        ("transformer", trainer.transformer, "diffusion_pytorch_model.safetensors"),
        ("text_encoder", trainer.text_encoder, "model.safetensors"),
    ):
        (tmp_path / part).mkdir()
        save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, tmp_path / part / file)
    return tmp_path


def tiny_vague(seed: int = 0) -> VagueTrainer:
    return VagueTrainer(tiny_tokens(), ModelConfig(TINY_TRANSFORMER, TINY_TEXT, mask_id=32), batch=4, seed=seed)


def test_resume_equals_the_uninterrupted_run(folder, tmp_path) -> None:
    whole, first, second = tiny_vague(), tiny_vague(), tiny_vague(seed=4)
    for trainer in (whole, first, second):
        trainer.start_from(folder)
    for step in range(4):
        whole.step(step / 4)
    for step in range(2):
        first.step(step / 4)
    first.save(tmp_path / "run.safetensors")
    second.load(tmp_path / "run.safetensors")
    for step in range(2, 4):
        second.step(step / 4)
    for mine, other in zip(whole.parameters + whole.ema, second.parameters + second.ema, strict=True):
        assert torch.equal(mine, other)


def test_most_of_the_examples_are_vague(folder) -> None:
    trainer = tiny_vague()
    trainer.start_from(folder)
    examples = trainer.draw(0.5, step_generator(0, 2))
    assert sorted(example.clear for example in examples) == [False, False, False, True]
    assert not any(held_out(example.scene) for example in examples)
    assert trainer._batch(examples, step_generator(0, 3)).order[:, 0].lt(0).sum() == 3


def test_the_text_encoder_learns_vague_captions_and_keeps_the_others(folder) -> None:
    trainer = tiny_vague()
    trainer.start_from(folder)
    kept = trainer.padding_loss
    assert isinstance(kept, KeptText)
    scene = Scene.single("cat", "blue")
    ids = trainer.tokenizer(
        [caption(scene, step_generator(0, 4), 0.0)] * 2, padding="max_length", max_length=32, return_tensors="pt"
    ).input_ids
    clear, unclear = torch.tensor([[0, -1]] * 2), torch.full((2, 2), -1)

    def drift(order: torch.Tensor) -> float:
        hidden = trainer.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
        return float(kept(hidden, ids, trainer.tokenizer.eos_token_id, order)[0].detach())

    assert drift(clear) < 1e-9
    before = [parameter.clone() for parameter in trainer.text_encoder.parameters()]
    teach_text_encoder(trainer, 4, batch=8)
    pairs = zip(before, trainer.text_encoder.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)
    assert drift(clear) > 0 and drift(unclear) == 0
