"""Training of the small world: VQ-GAN, scene tokens and refining."""

from __future__ import annotations

import pytest
import torch

from amused_core.files.training_state import save_state
from amused_core.images.psnr import psnr
from amused_core.sampling.step_generator import step_generator
from amused_core.small_world.scenes.layout import Scene
from amused_core.small_world.scenes.sprites import draw
from amused_core.small_world.scenes.things import BACKGROUNDS
from amused_core.small_world.training import codebook, refine, tokens, vq, vq_data
from tests.core.small_world.tiny_world import TINY_VQ, squares, tiny_tokens


def test_a_few_vq_steps_lower_the_loss_and_the_codebook_is_used():
    trainer = vq.VQTrainer(squares(), config=TINY_VQ)
    losses = [trainer.step(progress)["loss"] for progress in [0.0] * 40 + [0.2] * 10]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    pictures = draw(vq.held_out_scenes(6))
    ids = tokens.encode(trainer.model, pictures)
    assert ids.shape == (6, 16, 16) and len(ids.unique()) > 4
    assert tokens.decode(trainer.model, ids).shape == (6, 3, 128, 128)


def test_vq_resume_equals_the_uninterrupted_run(tmp_path):
    plan = [0.0, 0.0, 0.2, 0.2]
    whole = vq.VQTrainer(squares(), config=TINY_VQ)
    for progress in plan:
        whole.step(progress)
    first = vq.VQTrainer(squares(), config=TINY_VQ)
    for progress in plan[:3]:
        first.step(progress)
    first.save(tmp_path / "vq.safetensors")
    second = vq.VQTrainer(squares(), seed=9, config=TINY_VQ)
    second.load(tmp_path / "vq.safetensors")
    for progress in plan[3:]:
        second.step(progress)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_thing_cells_come_from_the_source_and_flat_cells_from_the_target():
    trainer = vq.VQTrainer(squares(), config=TINY_VQ)
    examples = vq_data.draw_examples(squares(), step_generator(3, 11), 4)
    assert examples.swapped.any() and not examples.swapped.all()
    mixed, pull = trainer._encode(examples)
    encode = lambda pictures: trainer.model.quant_conv(trainer.model.encoder(pictures))  # noqa: E731
    source, target = encode(examples.source), encode(examples.target)
    assert torch.allclose(mixed, torch.where(examples.flat, target, source), atol=1e-5) and pull > 0


def test_swapped_examples_differ_in_the_background_only():
    examples = vq_data.draw_examples(squares(), step_generator(3, 11), 8)
    differs = (examples.source != examples.target).any(1).flatten(1).any(1)
    assert torch.equal(differs, examples.swapped)
    assert examples.flat.shape == (8, 1, 16, 16) and examples.flat.any() and not examples.flat.all()


def test_scene_tokens_put_any_scene_together(tmp_path):
    table = tiny_tokens()
    pair = table.of(Scene.pair("cat", "left of", "dog", "blue"))
    alone = table.of(Scene.single("cat", "red", "bottom right"))
    blue, red = list(BACKGROUNDS).index("blue"), list(BACKGROUNDS).index("red")
    assert (pair[:4] == blue).all() and (pair[12:] == blue).all() and (alone[:8] == red).all()
    assert torch.equal(pair[5:12, :8], alone[9:, 8:])  # the same thing has the same tokens everywhere
    assert table.of(Scene.single("cat", "red"))[0].unique().tolist() == [red]
    table.save(tmp_path / "tokens.safetensors")
    again = tokens.SceneTokens.load(tmp_path / "tokens.safetensors")
    assert torch.equal(again.large, table.large) and torch.equal(again.flat, table.flat)


def test_tokens_of_another_word_list_are_refused(tmp_path):
    save_state(tmp_path / "old.safetensors", {}, {"things": ["cat"], "backgrounds": ["white"]})
    with pytest.raises(ValueError, match="old.safetensors"):
        tokens.SceneTokens.load(tmp_path / "old.safetensors")


def test_a_deeper_vq_starts_with_the_same_function():
    model = vq.build_vq(TINY_VQ).eval()
    deeper = refine.deepen(model).eval()
    pictures = draw(vq.held_out_scenes(2))
    with torch.no_grad():
        outputs = [m.decoder(m.post_quant_conv(m.quant_conv(m.encoder(pictures)))) for m in (model, deeper)]
    assert torch.allclose(*outputs, atol=1e-5)
    assert sum(p.numel() for p in deeper.parameters()) > sum(p.numel() for p in model.parameters())


def test_refining_brings_scenes_closer_and_keeps_the_codebook(tmp_path):
    model = vq.VQTrainer(squares(), config=TINY_VQ).model
    codes = model.quantize.embedding.weight.clone()
    refiner = refine.Refiner(refine.deepen(model), tiny_tokens(), squares())
    losses = [refiner.step(0.0)["loss"] for _ in range(20)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert torch.equal(refiner.model.quantize.embedding.weight, codes)
    refiner.save(tmp_path / "refined.safetensors")
    again = refine.Refiner(refine.deepen(model), tiny_tokens(), squares(), seed=7)
    again.load(tmp_path / "refined.safetensors")
    assert refiner.step(0.5) == again.step(0.5)


def test_codebook_quantises_to_the_nearest_code_and_passes_gradients_through():
    weight = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    book = codebook.Codebook(weight)
    latents = torch.tensor([0.1, 0.9]).reshape(1, 1, 1, 2).repeat(1, 2, 1, 1).requires_grad_()
    codes, commit = book.quantise(latents)
    assert torch.allclose(codes, torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2).repeat(1, 2, 1, 1)) and commit > 0
    codes.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))


def test_psnr_of_a_known_error():
    assert float(psnr(torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5))) == pytest.approx(20, abs=1e-3)
