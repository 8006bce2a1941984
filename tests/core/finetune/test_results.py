"""Fine-tuning: what a LoRA and a full training learn, and that the results load elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from amused_core import load_model
from amused_core.finetune.plan import LORA, TrainingPlan
from amused_core.finetune.prepare import prepare
from amused_core.finetune.settings import TrainingSettings
from tests.core.finetune.runs import EVERYWHERE, QUICK, MakeRun, save_picture
from tests.tiny import MASK_ID


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_picture_is_learnt_by_heart(run: MakeRun, kind: str) -> None:
    """The loss falls, and the caption alone then gives the picture's tokens.

    All of them are one: with one convolution at each end the tiny model cannot tell places in the middle apart.
    """
    settings = TrainingSettings(
        kind=kind, steps=60, learning_rate=1e-2, batch=4, rank=8, targets=EVERYWHERE, drop_text=0
    )
    training = run(settings=settings)
    training.trainer.data.examples.tokens.fill_(7)
    before = training.model.generate("a mushroom in flat style", cfg=1.0, seed=5).tokens
    training.train()
    losses = training.trainer.losses
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])
    after = training.model.generate("a mushroom in flat style", cfg=1.0, seed=5).tokens
    assert (before == 7).float().mean() < 0.5 < 0.95 < (after == 7).float().mean()


@pytest.mark.slow
def test_the_embedded_model_learns_a_picture(tmp_path: Path) -> None:
    """A few dozen steps, and its caption draws a picture of many tokens."""
    from amused_core.small_world.scenes.layout import Scene
    from amused_core.small_world.scenes.sprites import draw

    picture = (draw([Scene.single("rocket", "red")])[0] * 255).round().byte().permute(1, 2, 0)
    Image.fromarray(picture.flip(0).contiguous().numpy()).save(tmp_path / "x.png")  # upside down: nothing it knows
    settings = TrainingSettings(steps=70, learning_rate=1e-3, batch=4, targets=EVERYWHERE, drop_text=0)
    training = prepare(
        load_model(), TrainingPlan(tmp_path / "x.png", "a rocket on a red background", tmp_path / "run"), settings
    )
    before = training.model.generate("a rocket on a red background", cfg=1.0).tokens
    training.train()
    after = training.model.generate("a rocket on a red background", cfg=1.0).tokens
    right = training.trainer.data.examples.tokens
    assert len(right.unique()) > 20
    assert (before == right).float().mean() < 0.5 < 0.9 < (after == right).float().mean()


@pytest.mark.parametrize("shape", ["folder", "folder_512"])
def test_lora_loads_into_diffusers(request: pytest.FixtureRequest, shape: str, png: Path, tmp_path: Path) -> None:
    """The written file as an adapter of diffusers' own model: the same logits as the trained one."""
    from diffusers import UVit2DModel

    path = request.getfixturevalue(shape)
    training = prepare(load_model(path), TrainingPlan(png, "a mushroom", tmp_path / "run"), QUICK)
    tokens = torch.full((1, 8, 8), MASK_ID)
    text, micro = training.model.text.encode(["a mushroom"]), torch.tensor([[32.0, 32, 0, 0, 6]])
    with torch.no_grad():
        plain = training.model.transformer(tokens, *text, micro)
    file = training.train()
    with torch.no_grad():
        ours = training.model.transformer(tokens, *text, micro)
        theirs = UVit2DModel.from_pretrained(path / "transformer")
        theirs.load_lora_adapter(load_file(file), prefix="transformer")
        logits = theirs(tokens, text.hidden, pooled_text_emb=text.pooled, micro_conds=micro)
    assert not torch.allclose(plain, ours, atol=1e-2)
    assert torch.allclose(ours, logits.reshape(ours.shape), atol=1e-4)


def test_lora_loads_into_our_model(run: MakeRun, folder: Path) -> None:
    training = run()
    file = training.train()
    model = load_model(folder)
    model.load_lora(file)
    one, two = (m.generate("a mushroom in flat style", seed=3).tokens for m in (model, training.model))
    assert torch.equal(one, two)


def test_lora_says_what_it_is(run: MakeRun) -> None:
    with safe_open(run().train(), framework="pt") as file:
        about, names = file.metadata(), list(file.keys())  # noqa: SIM118
    expected = {"base_model": "tiny", "rank": "4", "lora_alpha": "4", "trained_alpha": "32", "steps": "6", "seed": "0"}
    assert about.items() >= expected.items()
    assert json.loads(about["prompts"]) == ["a mushroom in flat style"]
    assert "transformer.transformer_layers.0.attn1.to_q.lora_A.weight" in names
    assert all(name.startswith("transformer.") for name in names)


def test_text_encoder_is_trained_too(run: MakeRun, folder: Path) -> None:
    """Under the names that CLIP has, not the U-ViT's."""
    training = run(settings=QUICK.with_changes(text_encoder=True))
    tensors = load_file(training.train())
    ours = [name for name in tensors if name.startswith("text_encoder.")]
    assert {name.split(".")[-3] for name in ours} == {"q_proj", "k_proj", "v_proj", "out_proj"}
    assert any(tensors[name].abs().sum() > 0 for name in ours if "lora_B" in name)
    model = load_model(folder)
    before = model.text.encode(["a mushroom"]).hidden
    assert not model.load_lora(training.plan.output / LORA).unused
    after = model.text.encode(["a mushroom"]).hidden
    assert not torch.equal(before, after)
    assert torch.allclose(after, training.model.text.encode(["a mushroom"]).hidden, atol=1e-5)


@pytest.mark.parametrize("single_file", [False, True])
def test_full_training_writes_a_model(run: MakeRun, folder: Path, tmp_path: Path, single_file: bool) -> None:
    """diffusers' pipeline and ours load it, and the trained weights are in it."""
    from diffusers import AmusedPipeline

    settings = QUICK.with_changes(kind="full", text_encoder=True)
    if single_file:
        load_model(folder).save(tmp_path / "tiny.safetensors")
        folder = tmp_path / "tiny.safetensors"
    png = save_picture(tmp_path / "x.png")
    training = prepare(load_model(folder), TrainingPlan(png, "a mushroom", tmp_path / "full"), settings)
    path = training.train()
    again = load_model(path)
    for name, value in training.model.transformer.state_dict().items():
        assert torch.equal(again.transformer.state_dict()[name], value), name
    assert torch.equal(again.generate("a mushroom").tokens, training.model.generate("a mushroom").tokens)
    old = load_model(folder)
    assert not torch.equal(again.transformer.encoder_proj.weight, old.transformer.encoder_proj.weight)
    assert not torch.equal(again.text.encode(["a"]).pooled, old.text.encode(["a"]).pooled)
    pipeline = AmusedPipeline.from_pretrained(path)
    assert pipeline("a mushroom", height=32, width=32, num_inference_steps=2, output_type="np").images.shape[1:3] == (
        32,
        32,
    )


def test_prior_holds_what_was_known(folder: Path, png: Path, tmp_path: Path) -> None:
    """With the model's own pictures of a class in the batch, its logits for that class change less."""
    model = load_model(folder)
    text, micro = model.text.encode(["a castle"]), torch.tensor([[32.0, 32, 0, 0, 6]])
    tokens = torch.full((1, 8, 8), MASK_ID)
    with torch.no_grad():
        before = model.transformer(tokens, *text, micro).softmax(1)
    moved = []
    for number, prompts in enumerate(((), ("a castle",))):
        settings = TrainingSettings(steps=30, learning_rate=1e-2, batch=4, prior_prompts=prompts, prior_count=8)
        training = prepare(load_model(folder), TrainingPlan(png, "a mushroom", tmp_path / str(number)), settings)
        training.train()
        with torch.no_grad():
            moved.append(float((training.model.transformer(tokens, *text, micro).softmax(1) - before).abs().mean()))
    assert moved[1] < 0.7 * moved[0]
    assert len(training.trainer.data.prior) == 8 and training.trainer.data.prior.tokens.max() < 64
