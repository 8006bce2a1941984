"""Training of the small world: U-ViT, and what it sees when."""

from __future__ import annotations

import pytest
import torch

from amused_core.sampling.step_generator import step_generator
from amused_core.small_world.scenes.layout import Scene
from amused_core.small_world.scenes.splits import held_out
from amused_core.small_world.scenes.things import THINGS
from amused_core.small_world.training import tokens
from amused_core.small_world.training.curriculum import Curriculum, things_in_play
from amused_core.small_world.training.gradients import Objective
from tests.core.small_world.tiny_world import tiny_trainer


def test_training_lowers_the_loss():
    trainer = tiny_trainer()
    trainer.tokens = tokens.SceneTokens(*(torch.zeros_like(t) for t in vars(trainer.tokens).values()))
    losses = [trainer.step(0.0)["loss"] for _ in range(40)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_masked_resume_equals_the_uninterrupted_run(tmp_path):
    whole, first, second = tiny_trainer(), tiny_trainer(), tiny_trainer(seed=4)
    for step in range(6):
        whole.step(step / 6)
    for step in range(3):
        first.step(step / 6)
    first.save(tmp_path / "run.safetensors")
    second.load(tmp_path / "run.safetensors")
    for step in range(3, 6):
        second.step(step / 6)
    assert whole.seen == second.seen == 24
    for mine, other in zip(whole.parameters + whole.ema, second.parameters + second.ema, strict=True):
        assert torch.equal(mine, other)


def test_workers_share_a_batch_and_its_weights():
    alone, shared = tiny_trainer(), tiny_trainer(workers=2)
    shared.step(1.0)
    twins = [[p for module in networks.modules() for p in module.parameters()] for networks in shared.copies]
    assert all(p.data_ptr() == q.data_ptr() for p, q in zip(*twins, strict=True))
    sums = [torch.zeros_like(p) for p in alone.parameters]
    generator = step_generator(0, 0)
    for shard in alone._batch(alone.draw(1.0, generator), generator).split(2):
        Objective(torch.ones(32), None, 0, False).backward(alone.copies[0], shard)
        for total, parameter in zip(sums, alone.parameters, strict=True):
            total += parameter.grad if parameter.grad is not None else 0
    norm = torch.cat([total.flatten() for total in sums]).norm() / 2
    for total, parameter in zip(sums, shared.parameters, strict=True):
        if parameter.grad is not None:  # clipped to a norm of one
            assert torch.allclose(total / 2 / norm.clamp_min(1), parameter.grad, atol=1e-5)


def test_things_come_into_play_one_after_another():
    counts = [things_in_play(step, 50) for step in range(1000)]
    assert counts[0] == 6 and counts[-1] == 50 and sorted(counts) == counts and max(torch.tensor(counts).diff()) == 1
    curriculum = Curriculum(len(THINGS), 0)
    early = curriculum.draw(200, 0, 0.0, step_generator(0, 0))
    late = curriculum.draw(2000, 9999, 1.0, step_generator(0, 1))
    first = {THINGS[index].name for index in curriculum.order[:6].tolist()}
    assert {name for scene in early for name in scene.things} == first
    assert len({name for scene in late for name in scene.things}) == len(THINGS)
    pairs = [sum(len(scene.things) == 2 for scene in scenes) / len(scenes) for scenes in (early, late)]
    assert pairs[0] < 0.3 < 0.5 < pairs[1] < 0.75


def test_no_scene_of_the_training_is_held_out():
    assert not any(map(held_out, Curriculum(len(THINGS), 1).draw(1000, 9999, 1.0, step_generator(0, 2))))


def test_hard_things_are_drawn_more_often():
    curriculum = Curriculum(4, 0)
    curriculum.order, curriculum.losses = torch.arange(4), torch.tensor([1.0, 1.0, 1.0, 9.0])
    assert curriculum.difficulty()[3] == 3 and (curriculum.difficulty()[:3] == 0.5).all()
    scenes = [scene for scene in curriculum.draw(400, 9999, 0.0, step_generator(0, 3)) if len(scene.things) == 1]
    assert sum(scene.things[0] == THINGS[3].name for scene in scenes) > 0.5 * len(scenes)
    curriculum.learn([Scene.single(THINGS[0].name, "red")], [5.0])
    assert curriculum.losses[0] == pytest.approx(1.4)
