"""The training node: what it learns, what it hands to stock nodes, cancelling, and that the graph stays as it is."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.comfy import graphs
from tests.comfy.harness import GraphError

pytest.importorskip("peft", reason="the extra 'train' is not installed")
pytest.importorskip("accelerate", reason="the extra 'train' is not installed")

TEXT = "a mushroom in flat style"
SETTINGS = {
    "preset": "style",
    "steps": 4,
    "learning_rate": 0.01,
    "rank": 4,
    "batch_size": 2,
    "seed": 3,
    "keep": "",
    "preview_every": 0,
    "precision": "fp32",
    "gradient_checkpointing": False,
}


@pytest.fixture
def output(comfy):
    """ComfyUI's output folder for LoRAs, emptied."""
    folder = comfy.models / "output" / "loras"
    for file in folder.glob("*"):
        file.unlink()
    return folder


def train(comfy, loader, image=None, text=TEXT, **settings):
    """AmusedTrainLora."""
    image = comfy.give(graphs.picture()) if image is None else image
    wires = {"model": loader, "clip": (loader, 1), "vae": (loader, 2), "image": image, "text": text}
    return comfy.node("AmusedTrainLora", **(wires | SETTINGS | settings))


def weights(model):
    """The weights of a MODEL as they are now."""
    return {key: value.clone() for key, value in model.model.diffusion_model.state_dict().items()}


def test_outputs(comfy):
    """A MODEL that draws otherwise, weights, losses, steps; and the MODEL that came in is as it was."""
    loader = graphs.load(comfy)
    plain = comfy.run(loader)
    before = weights(plain)
    node = train(comfy, loader)
    model, lora, losses, steps = comfy.run(node, (node, 1), (node, 2), (node, 3))
    assert steps == 4 and len(losses["loss"]) == 4 and all(isinstance(loss, float) for loss in losses["loss"])
    assert {key.split(".")[-2] for key in lora} == {"lora_A", "lora_B"}
    assert all(key.startswith("diffusion_model.") and value.dtype is torch.float32 for key, value in lora.items())
    assert not plain.patches and len(model.patches) == len(lora) // 2
    after = weights(plain)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert model.model is plain.model, "a clone with patches, no second model"
    empty = graphs.empty(comfy, loader)
    one, two = (comfy.run(graphs.sample(comfy, source, empty, graphs.prompts(comfy, loader, TEXT)))
                for source in (loader, comfy.give(model)))  # fmt: skip
    assert not graphs.same(one, two)


def test_it_is_what_the_core_learns(comfy, tmp_path):
    """The same picture, caption and settings on the command line's trainer: the same LoRA."""
    from PIL import Image

    from amused_core import load_model
    from amused_core.finetune.plan import TrainingPlan
    from amused_core.finetune.prepare import prepare
    from amused_core.finetune.settings import TrainingSettings

    array = (graphs.picture()[0] * 255).round().byte()
    Image.fromarray(array.numpy()).save(tmp_path / "x.png")
    name = comfy.models / "amused" / "tiny"
    settings = TrainingSettings(steps=4, learning_rate=0.01, rank=4, batch=2, seed=3, targets=_targets())
    training = prepare(load_model(name), TrainingPlan(tmp_path / "x.png", TEXT, tmp_path / "run"), settings)
    file = load_file(training.train())
    lora = comfy.run((train(comfy, graphs.load(comfy), comfy.give(array[None].float() / 255)), 1))
    prefixes = "transformer.", "diffusion_model."
    assert {key.replace(*prefixes) for key in file} == lora.keys()
    for key, value in file.items():
        assert torch.allclose(value, lora[key.replace(*prefixes)], atol=5e-3), (
            key
        )  # Adam enlarges the rounding of two text encoders


def _targets():
    from amused_core.finetune.presets import preset
    from amused_core.networks.uvit.config import UVitConfig

    return preset("style", UVitConfig(hidden_size=32)).targets


def test_stock_nodes_take_the_outputs(comfy, output):
    """Stock loaders and ours give the trained model from the weights, and from SaveLoRA's file; the loss is drawn."""
    import folder_paths

    loader = graphs.load(comfy)
    node = train(comfy, loader)
    import nodes

    save = "SaveLoRA" if "SaveLoRA" in nodes.NODE_CLASS_MAPPINGS else "SaveLoRANode"  # Its name in 0.3.52.
    comfy.finish(comfy.node(save, lora=(node, 1), prefix="loras/mushroom", steps=(node, 3)))
    (file,) = output.glob("mushroom_4_steps_*.safetensors")
    comfy.finish(comfy.node("LossGraphNode", loss=(node, 2), filename_prefix="loss"))
    folder_paths.add_model_folder_path("loras", str(output))
    strengths = {"strength_model": 1.0, "strength_clip": 1.0}
    loaders = [
        comfy.node("AmusedLoraLoader", model=loader, lora_name=file.name, **strengths),
        comfy.node("LoraLoaderModelOnly", model=loader, lora_name=file.name, strength_model=1.0),
        comfy.node("LoraLoader", model=loader, clip=(loader, 1), lora_name=file.name, **strengths),
        comfy.node("LoraModelLoader", model=loader, lora=(node, 1), strength_model=1.0, bypass=False),
    ]
    empty, text = graphs.empty(comfy, loader), graphs.prompts(comfy, loader, TEXT)
    plain, want = (comfy.run(graphs.sample(comfy, source, empty, text)) for source in (loader, node))
    assert not graphs.same(plain, want)
    for source in loaders:
        assert graphs.same(comfy.run(graphs.sample(comfy, source, empty, text)), want), source.class_type


def test_a_lora_in_the_graph_is_part_of_what_is_trained_on(comfy):
    loader = graphs.load(comfy)
    first = train(comfy, loader, learning_rate=0.05)
    plain, on_top = (comfy.run((train(comfy, loader, steps=1, **wires), 2)) for wires in ({}, {"model": first}))
    assert plain["loss"] != on_top["loss"]


def test_previews_and_progress(comfy):
    loader = graphs.load(comfy)
    comfy.run(train(comfy, loader, preview_every=2, steps=5))
    shown = [(value, preview is not None) for value, total, preview in comfy.steps if total == 5]
    assert shown == [(1, False), (2, True), (3, False), (4, True), (5, True)]
    picture = next(preview for _, _, preview in comfy.steps if preview is not None)[1]
    assert picture.size == (32, 32)


def test_cancel_keeps_what_was_learnt(comfy, output):
    from comfy import model_management

    loader = graphs.load(comfy)
    plain = comfy.run(loader)
    before = weights(plain)
    comfy.on_progress = lambda value: model_management.interrupt_current_processing(value == 3)
    try:
        with pytest.raises(GraphError) as error:
            comfy.run(train(comfy, loader, steps=50, seed=11))
        assert error.value.kind == "interrupted"
    finally:
        comfy.on_progress = None
        model_management.interrupt_current_processing(False)
    (file,) = output.glob("amused_stopped_*.safetensors")
    with safe_open(file, framework="pt") as content:
        assert int(content.metadata()["steps"]) in (3, 4)
        assert any(content.get_tensor(key).abs().sum() > 0 for key in content.keys() if "lora_B" in key)  # noqa: SIM118
    assert all(torch.equal(before[key], value) for key, value in weights(plain).items())


def test_keep_learns_the_models_own_pictures_too(comfy):
    loader = graphs.load(comfy)
    alone, beside = (comfy.run((train(comfy, loader, keep=keep), 2))["loss"] for keep in ("", "a castle\n\na boat"))
    assert all(two > one for one, two in zip(alone, beside, strict=True)), "two losses are added"


def test_several_pictures_of_another_size(comfy):
    node = train(comfy, graphs.load(comfy), comfy.give(graphs.picture(2, 50, 90)), text="one\ntwo\n")
    assert len(comfy.run((node, 2))["loss"]) == 4


def test_options_that_change_no_result(comfy):
    loader = graphs.load(comfy)
    one, two = (comfy.run((train(comfy, loader, gradient_checkpointing=on), 1)) for on in (False, True))
    assert all(torch.allclose(one[key], two[key], atol=1e-6) for key in one)


def test_half_precision(comfy):
    lora = comfy.run((train(comfy, graphs.load(comfy), precision="bf16"), 1))
    assert all(value.dtype is torch.float32 for value in lora.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": "one\ntwo\nthree"}, "There are 3 captions for 1 images"),
        ({"text": " \n"}, "There are 0 captions for 1 images"),
        ({"precision": "fp16"}, "a CPU cannot train in"),
    ],
)
def test_refusals(comfy, change, said):
    with pytest.raises(GraphError, match=said):
        comfy.run(train(comfy, graphs.load(comfy), **change))


def test_parts_of_other_models_are_refused(comfy):
    loader, other = graphs.load(comfy), graphs.load(comfy, "tiny8")
    with pytest.raises(GraphError, match="connect the MODEL of 'Load aMUSEd'"):
        comfy.run(train(comfy, loader, model=comfy.give(object())))
    with pytest.raises(GraphError, match="connect the CLIP of 'Load aMUSEd'"):
        comfy.run(train(comfy, loader, clip=comfy.give(object())))
    with pytest.raises(GraphError, match="connect the VAE of 'Load aMUSEd'"):
        comfy.run(train(comfy, loader, vae=comfy.give(object())))
    with pytest.raises(GraphError, match="it comes from another text encoder"):
        comfy.run(train(comfy, loader, clip=(graphs.load(comfy, "embedded"), 1)))
    with pytest.raises(GraphError, match="This VAE has 64 tokens of 8 pixels and the MODEL 64 of 4"):
        comfy.run(train(comfy, loader, vae=(other, 2)))


@pytest.mark.parametrize("package", ["peft", "accelerate"])
def test_missing_packages_are_said(comfy, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(GraphError, match=f"install it with: pip install {package}"):
        comfy.run(train(comfy, graphs.load(comfy), seed=99))
