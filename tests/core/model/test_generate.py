"""The facade: what `generate` promises beside refusing bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from amused_core import AmusedModel, Step, load_model
from tests.tiny import write_tiny_checkpoint

MASK_ID = 71


def run(model: AmusedModel, **more: Any) -> torch.Tensor:
    return model.generate(**{"prompt": "a cat", "steps": 4, "cfg": 3.0, "seed": 3, **more}).tokens


def counts(model: AmusedModel, **more: Any) -> list[list[int]]:
    """Masked cells of each picture after each step."""
    seen: list[Step] = []
    run(model, on_step=seen.append, **more)
    assert [step.index for step in seen] == list(range(len(seen)))
    return [(step.tokens == MASK_ID).flatten(1).sum(-1).tolist() for step in seen]


def box(top: int, bottom: int) -> torch.Tensor:
    mask = torch.zeros(1, 32, 32)
    mask[:, top:bottom] = 1
    return mask


def test_shapes_and_dtypes(model: AmusedModel) -> None:
    result = model.generate("a cat", batch_size=2, width=40, height=16, steps=2)
    assert result.images.shape == (2, 16, 40, 3) and result.images.dtype == torch.float32
    assert result.tokens.shape == (2, 4, 10) and result.tokens.dtype == torch.int64
    assert result.images.min() >= 0 and result.images.max() <= 1
    assert not result.images.requires_grad and result.images.device.type == "cpu"
    assert torch.equal(model.vq.decode(result.tokens), result.images)


def test_none_is_what_the_model_recommends(model: AmusedModel) -> None:
    best = model.checkpoint.recommended
    assert (best.cfg, best.steps, best.temperature, best.schedule) == (4.0, 12, (2.0, 0.0), "cosine")
    named = {name: getattr(best, name) for name in ("cfg", "steps", "temperature", "schedule", "width", "height")}
    assert torch.equal(model.generate("a cat").tokens, model.generate("a cat", **named).tokens)


def test_the_512_shape_recommends_more_guidance(model_512: AmusedModel) -> None:
    assert model_512.checkpoint.recommended.cfg == 10.0


def test_what_the_checkpoint_recommends(edit, folder: Path) -> None:
    copy = edit("scheduler/scheduler_config.json", masking_schedule="linear")
    (copy / "amused.json").write_text(
        '{"name": "Mine", "recommended": {"cfg": 2, "steps": 3, "temperature": [1, 0.5], "width": 16, "height": 24}}'
    )
    mine = load_model(copy)
    assert mine.checkpoint.name == "Mine" and mine.checkpoint.schedule == "linear"
    want = load_model(folder).generate(
        "a cat", cfg=2, steps=3, temperature=(1, 0.5), width=16, height=24, schedule="linear"
    )
    assert torch.equal(mine.generate("a cat").tokens, want.tokens) and want.tokens.shape == (1, 6, 4)


def test_the_same_after_other_runs(model: AmusedModel, picture: torch.Tensor) -> None:
    first = run(model)
    run(model, seed=9, batch_size=2, width=16)
    run(model, image=picture, mask=box(0, 8), schedule="linear")
    run(model, seeding="diffusers")
    assert torch.equal(first, run(model))


def test_seeds(model: AmusedModel) -> None:
    batch = run(model, seed=[3, 8, 3])
    assert torch.equal(batch[:1], run(model)) and torch.equal(batch[1:2], run(model, seed=8))
    assert torch.equal(batch[0], batch[2]) and not torch.equal(batch[0], batch[1])


def test_seeding_of_diffusers_is_one_stream(model: AmusedModel) -> None:
    pair = run(model, seeding="diffusers", batch_size=2)
    assert torch.equal(pair, run(model, seeding="diffusers", batch_size=2))
    assert not torch.equal(pair[0], pair[1])


def test_the_global_generator_is_left_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    loaded = load_model(folder)
    run(loaded)
    run(loaded, seeding="diffusers", image=torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(before, torch.get_rng_state())


def test_grad_mode_and_dtype_defaults_are_left_alone(model: AmusedModel) -> None:
    assert torch.is_grad_enabled()
    run(model, on_step=lambda step: None)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
def test_strength_none(model: AmusedModel, picture: torch.Tensor, seeding: str) -> None:
    half = run(model, image=picture, strength=0.5, seeding=seeding)
    assert torch.equal(run(model, image=picture, seeding=seeding), half)
    whole = run(model, image=picture, mask=box(0, 16), strength=1.0, seeding=seeding)
    assert torch.equal(run(model, image=picture, mask=box(0, 16), seeding=seeding), whole)


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
def test_full_strength_ignores_the_picture(model: AmusedModel, picture: torch.Tensor, seeding: str) -> None:
    plain = run(model, seeding=seeding)
    assert torch.equal(run(model, image=picture, strength=1.0, seeding=seeding), plain)
    assert torch.equal(run(model, image=1 - picture, strength=1.0, seeding=seeding), plain)


@pytest.mark.parametrize("strength", [0.0, 1e-9, 0.01, 0.24])
def test_a_tiny_strength_runs_one_step(model: AmusedModel, picture: torch.Tensor, strength: float) -> None:
    seen: list[Step] = []
    out = run(model, image=picture, strength=strength, on_step=seen.append)
    assert len(seen) == 1 and seen[0].total == 1
    changed = (out != model.vq.encode(picture)).sum()
    assert 0 < changed <= 24


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.75])
def test_strength_says_how_many_steps_run(model: AmusedModel, picture: torch.Tensor, strength: float) -> None:
    assert len(counts(model, image=picture, strength=strength)) == int(4 * strength)


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
@pytest.mark.parametrize("strength", [None, 0.0, 0.5, 1.0])
def test_an_empty_mask_returns_the_pictures_own_tokens(
    model: AmusedModel, picture: torch.Tensor, seeding: str, strength: float | None
) -> None:
    out = run(model, image=picture, mask=box(0, 0), strength=strength, seeding=seeding)
    assert torch.equal(out, model.vq.encode(picture))


def test_a_full_mask_is_text_to_picture(model: AmusedModel, picture: torch.Tensor) -> None:
    assert torch.equal(run(model, image=picture, mask=box(0, 32), schedule="cosine"), run(model, schedule="cosine"))


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_outside_the_mask_nothing_changes(
    folder: Path, picture: torch.Tensor, seeding: str, strength: float, dtype: str
) -> None:
    model = load_model(folder, dtype=dtype)
    own = model.vq.encode(picture)
    for seed in range(3):
        out = run(model, image=picture, mask=box(8, 20), strength=strength, seeding=seeding, seed=seed)
        assert torch.equal(out[:, :2], own[:, :2]) and torch.equal(out[:, 5:], own[:, 5:])


def test_each_member_has_its_own_mask_ratio(model: AmusedModel, picture: torch.Tensor) -> None:
    masks = torch.cat([box(0, 4), box(0, 32), box(0, 0)])
    assert counts(model, image=picture, mask=masks) == [[6, 48, 0], [4, 32, 0], [2, 16, 0], [0, 0, 0]]


def test_on_step_sees_falling_counts(model: AmusedModel) -> None:
    seen = counts(model, batch_size=2, schedule="linear", steps=5)
    assert seen == [[51, 51], [38, 38], [25, 25], [12, 12], [0, 0]]


def test_keeping_the_steps_is_safe(model: AmusedModel) -> None:
    """A step's tokens are not written to later."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    run(model, on_step=lambda step: seen.append((step.tokens, step.tokens.clone())))
    assert all(torch.equal(kept, copy) for kept, copy in seen)


def test_an_interrupt_passes_and_the_next_run_works(model: AmusedModel) -> None:
    class Interrupt(Exception):
        pass

    def stop(step: Step) -> None:
        raise Interrupt

    before = run(model)
    with pytest.raises(Interrupt):
        run(model, on_step=stop)
    assert torch.equal(before, run(model))


@pytest.mark.parametrize(("width", "height"), [(28, 36), (4, 4), (36, 4), (12, 12), (100, 4)])
def test_odd_grids(model: AmusedModel, model_512: AmusedModel, width: int, height: int) -> None:
    for one in (model, model_512):
        result = one.generate("a cat", width=width, height=height, steps=2, batch_size=2)
        assert result.tokens.shape == (2, height // 4, width // 4) and result.images.shape == (2, height, width, 3)
        again = one.generate("a cat", image=result.images, mask=torch.ones(height, width), steps=2)
        assert again.tokens.shape == result.tokens.shape


def test_two_models_side_by_side(model: AmusedModel, model_512: AmusedModel) -> None:
    first, second = run(model), run(model_512)
    assert not torch.equal(first, second)
    assert torch.equal(first, run(model)) and torch.equal(second, run(model_512))


@pytest.mark.parametrize("factor", [4, 8, 16])
def test_factor_and_mask_token_come_from_the_checkpoint(tmp_path: Path, factor: int) -> None:
    model = load_model(write_tiny_checkpoint(tmp_path / "m", factor=factor))
    assert model.checkpoint.factor == model.vq.factor == factor and model.checkpoint.mask_token_id == MASK_ID
    result = model.generate("a cat", steps=1)
    assert result.images.shape == (1, 8 * factor, 8 * factor, 3) and result.tokens.shape == (1, 8, 8)


def test_another_mask_token(edit, folder: Path) -> None:
    """Any id between the codes and the vocabulary's end."""
    seen: list[Step] = []
    load_model(edit("scheduler/scheduler_config.json", mask_token_id=64)).generate("a cat", on_step=seen.append)
    assert seen[0].tokens.max() == 64 and seen[-1].tokens.max() < 64


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_leaves_every_module_as_it_was(folder: Path, picture: torch.Tensor, dtype: str) -> None:
    model = load_model(folder, dtype=dtype)
    modules = (model.transformer, model.text.module, model.vq.module)
    before = [{value.dtype for value in module.parameters()} for module in modules]
    assert before[2] == {torch.float32} and len(before[0]) == len(before[1]) == 1
    for seeding in ("per_image", "diffusers"):
        assert torch.isfinite(model.generate("a cat", image=picture, seeding=seeding, steps=3).images).all()
    assert before == [{value.dtype for value in module.parameters()} for module in modules]
