"""The LoRA loader: the tokens of `load_lora` and of peft, stacking, stock loaders and hooks, saving, refusals."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import loras
from tests.comfy import graphs
from tests.comfy.graphs import same
from tests.comfy.harness import GraphError
from tests.comfy.runs import logits, partly
from tests.loras import TEXT, UVIT, factors

PROMPT = "a red apple"


@pytest.fixture(scope="module")
def folder(comfy):
    """ComfyUI's folder for LoRAs."""
    import folder_paths

    path = comfy.models / "loras"
    path.mkdir(exist_ok=True)
    folder_paths.add_model_folder_path("loras", str(path))
    return path


@pytest.fixture(scope="module")
def reference(comfy):
    """The headless model."""
    from amused_core import load_model

    return load_model(comfy.models / "amused" / "tiny", device="cpu")


@pytest.fixture
def headless(reference):
    yield reference
    reference.unload_loras()


@pytest.fixture(scope="module")
def pairs(reference):
    """Factors for both parts."""
    return factors(reference.transformer, UVIT), factors(reference.text.module, TEXT, seed=1)


@pytest.fixture(scope="module")
def file(folder, pairs):
    """A LoRA in diffusers' format, alpha twice its rank."""
    return loras.write(folder / "style.safetensors", "diffusers", *pairs, lora_alpha="4", rank="2")


@pytest.fixture(scope="module")
def kohya(folder, pairs):
    """The same, in kohya's format."""
    content = loras.tensors("kohya", *pairs)
    alphas = {key.replace(".lora_up.weight", ".alpha"): torch.tensor(4.0) for key in content if "lora_up" in key}
    save_file(content | alphas, folder / "kohya.safetensors")
    return folder / "kohya.safetensors"


def load(comfy, loader, file, strength=1.0, text=None, clip=True):
    """AmusedLoraLoader behind a loader, or behind another of its kind."""
    wires = {"clip": (loader, 1)} if clip else {}
    strengths = {"strength_model": strength, "strength_clip": strength if text is None else text}
    name = file if isinstance(file, str) else file.name
    return comfy.node("AmusedLoraLoader", model=loader, lora_name=name, **strengths, **wires)


def draw(comfy, loader, lora, **settings):
    """A run with the MODEL and the CLIP of `lora`."""
    text = graphs.prompts(comfy, lora, PROMPT)
    return graphs.sample(comfy, lora, graphs.empty(comfy, loader), text, **settings)


def drawn(model, **settings):
    """The same run, headless."""
    call = {"steps": 6, "cfg": 3.0, "temperature": (2.0, 0.0), "seed": 3, "width": 32, "height": 32, **settings}
    return model.generate(PROMPT, **call).tokens


def test_the_same_tokens_as_headless_and_diffusers(comfy, start, headless, file):
    """In ComfyUI, merged by us, and as adapters of peft in diffusers' pipeline."""
    import diffusers
    import peft

    loader, _, _ = start
    latents = comfy.run(
        draw(comfy, loader, loader, seeding="diffusers"),
        draw(comfy, loader, load(comfy, loader, file, 0.75, 0.5), seeding="diffusers"),
    )
    plain, ours = map(graphs.tokens, latents)
    headless.load_lora(file, 0.75, 0.5)
    assert ours.equal(drawn(headless, seeding="diffusers"))

    pipe = diffusers.AmusedPipeline.from_pretrained(comfy.models / "amused" / "tiny")
    pipe.set_progress_bar_config(disable=True)
    for part, names, strength in (("transformer", UVIT, 0.75), ("text_encoder", TEXT, 0.5)):
        module = getattr(pipe, part)
        peft.inject_adapter_in_model(peft.LoraConfig(r=2, lora_alpha=4, target_modules=list(names)), module)
        state = {k.removeprefix(f"{part}."): v for k, v in load_file(file).items() if k.startswith(part)}
        peft.set_peft_model_state_dict(module, state)
        for layer in module.modules():
            if isinstance(layer, peft.tuners.tuners_utils.BaseTunerLayer):
                layer.set_scale("default", strength)
    run = {"num_inference_steps": 6, "guidance_scale": 3.0, "height": 32, "width": 32, "output_type": "latent"}
    theirs = pipe(PROMPT, **run, generator=torch.Generator().manual_seed(3)).images
    assert ours.equal(theirs) and not ours.equal(plain)


@pytest.mark.parametrize("form", loras.FORMS)
def test_every_format(comfy, start, headless, folder, pairs, form):
    loader, _, _ = start
    if form == "processor":
        pairs = (factors(headless.transformer, loras.ATTENTION), factors(headless.text.module, TEXT[:2]))
    file = loras.write(folder / f"{form}.safetensors", form, *pairs)
    headless.load_lora(file)
    assert graphs.tokens(comfy.run(draw(comfy, loader, load(comfy, loader, file)))).equal(drawn(headless))


def test_the_clip_is_optional(comfy, start, headless, file, pairs):
    """Then only the transformer changes, and the CLIP output is empty."""
    loader, text, latent = start
    lora = load(comfy, loader, file, clip=False)
    # With these weights, seed 3 of the other tests draws within a rounding error of the border of two codes.
    got, clip = comfy.run(graphs.sample(comfy, lora, latent, text, seed=4), (lora, 1))
    headless.load_lora(file, 1.0, 0.0)
    assert clip is None and graphs.tokens(got).equal(drawn(headless, seed=4))


def test_stacking_is_undone_by_opposites(comfy, start, headless, file, folder):
    loader, _, _ = start
    other = loras.write(folder / "other.safetensors", "kohya", factors(headless.transformer, UVIT[3:], seed=5))
    one = load(comfy, loader, file, 0.5)
    two = load(comfy, one, other, -1.0)
    back = load(comfy, load(comfy, two, other, 1.0), file, -0.5)
    plain, got, undone, again = comfy.run(
        *(draw(comfy, loader, lora) for lora in (loader, two, back)), draw(comfy, loader, loader)
    )
    headless.load_lora(file, 0.5)
    headless.load_lora(other, -1.0)
    assert graphs.tokens(got).equal(drawn(headless)) and not same(got, plain)
    assert same(undone, plain) and same(again, plain)


@pytest.mark.parametrize("name", ["none", "style.safetensors"])
def test_strength_0_and_none_change_nothing(comfy, start, file, name):
    """The same MODEL and CLIP go on, so that nothing has to be loaded again."""
    loader, _, _ = start
    strength = 1.0 if name == "none" else 0.0
    lora = load(comfy, loader, name, strength)
    model, clip, same_model, same_clip = comfy.run(loader, (loader, 1), lora, (lora, 1))
    assert same_model is model and same_clip is clip


def test_one_part_alone(comfy, start, headless, file):
    loader, _, _ = start
    lora = load(comfy, loader, file, 0.0, 1.0)
    model, same_model, got = comfy.run(loader, lora, draw(comfy, loader, lora))
    headless.load_lora(file, 0.0, 1.0)
    assert same_model is model and graphs.tokens(got).equal(drawn(headless))


def test_stock_loaders(comfy, start, kohya, file):
    """They read kohya's format, both parts."""
    loader, text, latent = start
    both = comfy.node(
        "LoraLoader", model=loader, clip=(loader, 1), lora_name=kohya.name, strength_model=1.0, strength_clip=0.5
    )
    only = comfy.node("LoraLoaderModelOnly", model=loader, lora_name=kohya.name, strength_model=1.0)
    runs = [draw(comfy, loader, lora) for lora in (both, load(comfy, loader, kohya, 1.0, 0.5))]
    runs += [graphs.sample(comfy, lora, latent, text) for lora in (only, load(comfy, loader, file, clip=False))]
    stock, ours, stock_model, our_model = comfy.run(*runs)
    assert same(stock, ours) and same(stock_model, our_model) and not same(stock, stock_model)


@pytest.mark.parametrize("name", ["of/windows.safetensors", "of\\windows.safetensors"])
def test_names_with_backslashes(comfy, start, folder, file, name):
    """Workflows from Windows have them."""
    loader, text, latent = start
    (folder / "of").mkdir(exist_ok=True)
    (folder / "of" / "windows.safetensors").write_bytes(file.read_bytes())
    loaded = [load(comfy, loader, path, clip=False) for path in (file, name)]
    want, got = comfy.run(*(graphs.sample(comfy, lora, latent, text) for lora in loaded))
    assert same(got, want)


def test_hooks(comfy, start, kohya):
    """A hook on the prompts gives the tokens of the loader, for the MODEL and for the CLIP."""
    loader, _, latent = start
    for model, clip in ((0.7, 0.0), (0.7, 0.7)):
        hook = comfy.node("CreateHookLora", lora_name=kohya.name, strength_model=model, strength_clip=clip)
        hooked = comfy.node("SetClipHooks", clip=(loader, 1), hooks=hook, apply_to_conds=True, schedule_clip=False)
        prompts = [comfy.node("CLIPTextEncode", clip=hooked, text=text) for text in (PROMPT, "")]
        got, want = comfy.run(
            graphs.custom(comfy, loader, latent, positive=prompts[0], negative=prompts[1]),
            graphs.custom(
                comfy, lora := load(comfy, loader, kohya, model, clip), latent, graphs.prompts(comfy, lora, PROMPT)
            ),
        )
        assert same(got, want)


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_partial_loading(comfy, start, file, share):
    """Weights that stay outside are patched when they are used: the same logits, and nothing is left behind."""
    from comfy import model_management

    loader, text, _ = start
    plain, patched, text = comfy.run(loader, load(comfy, loader, file, clip=False), text)
    model_management.load_models_gpu([plain], force_full_load=True)
    without = logits(plain, text)
    model_management.load_models_gpu([patched], force_full_load=True)
    want = logits(patched, text)
    model_management.unload_all_models()
    assert partly(patched, share)
    torch.testing.assert_close(logits(patched, text), want, atol=1e-5, rtol=1e-5)
    patched.unpatch_model(torch.device("cpu"))
    assert torch.equal(logits(plain, text), without) and not torch.allclose(without, want, atol=1e-2)


def test_merging_and_saving(comfy, start, headless, file):
    """The saved weights are those of `load_lora`; merging a LoRA'd model in full with the plain one gives it back."""
    loader, text, latent = start
    lora = load(comfy, loader, file, 0.5, clip=False)
    comfy.finish(comfy.node("ModelSave", model=lora, filename_prefix="with_lora"))
    saved = load_file(next((comfy.models / "output").rglob("with_lora*.safetensors")))
    headless.load_lora(file, 0.5, 0.0)
    for name, value in headless.transformer.named_parameters():
        assert torch.allclose(saved[f"model.diffusion_model.{name}"], value, atol=1e-6), name
    merged = comfy.node("ModelMergeSimple", model1=loader, model2=lora, ratio=0.0)
    want, got = comfy.run(*(graphs.sample(comfy, model, latent, text) for model in (lora, merged)))
    assert same(want, got)


def test_keys_that_do_not_fit_are_told_once(comfy, start, folder, pairs, caplog):
    loader, _, _ = start
    content = loras.tensors("kohya", pairs[0]) | {f"{loras.STRANGER}.lora_down.weight": torch.ones(2, 4)}
    save_file(content, folder / "mixed.safetensors")
    # A part that is not connected is not missed.
    loras.write(folder / "whole.safetensors", "peft", *pairs)
    with caplog.at_level(logging.WARNING):
        comfy.run(load(comfy, loader, "mixed.safetensors"), load(comfy, loader, "whole.safetensors", clip=False))
    told = [record.getMessage() for record in caplog.records if ".safetensors" in record.getMessage()]
    (sentence,) = told
    assert "mixed.safetensors" in sentence and loras.STRANGER in sentence and "fits nothing here" in sentence


def refused(comfy, node, *parts):
    """One sentence in ComfyUI's own report; newer versions refuse a choice that is not offered by one of their own."""
    with pytest.raises(GraphError) as caught:
        comfy.run(node)
    for part in parts:
        assert part in str(caught.value), f"{part!r} is not in {caught.value}"
    assert caught.value.kind.endswith("AmusedError") or "value_not_in_list" in str(caught.value)


def test_refusals(comfy, start, folder, file, pairs):
    loader, text, latent = start
    stranger = loras.tensors("kohya", None, pairs[1]) | {f"{loras.STRANGER}.lora_up.weight": torch.ones(4, 4)}
    save_file(stranger, folder / "sd15.safetensors")
    refused(comfy, load(comfy, loader, "sd15.safetensors"), "does not fit aMUSEd", "a LoRA for Stable Diffusion")
    refused(comfy, load(comfy, loader, "sd15.safetensors", clip=False), "does not fit aMUSEd")
    loras.write(folder / "text.safetensors", "diffusers", None, pairs[1])
    refused(comfy, load(comfy, loader, "text.safetensors", clip=False), "only the text encoder", "'Load aMUSEd'")
    refused(comfy, load(comfy, loader, "gone.safetensors"), "'gone.safetensors'", "style.safetensors")
    broken = {key: torch.full_like(value, torch.nan) for key, value in loras.tensors("kohya", pairs[0]).items()}
    save_file(broken, folder / "nan.safetensors")
    refused(comfy, load(comfy, loader, "nan.safetensors"), "NaN")
    other = comfy.give(object())
    refused(
        comfy,
        comfy.node("AmusedLoraLoader", model=other, lora_name="none", strength_model=1.0, strength_clip=1.0),
        "not aMUSEd",
    )
    clip = comfy.give(type("Clip", (), {"cond_stage_model": None})())
    wires = {"model": loader, "clip": clip, "lora_name": file.name}
    refused(comfy, comfy.node("AmusedLoraLoader", **wires, strength_model=1.0, strength_clip=1.0), "CLIP is of another")
    want, got = comfy.run(graphs.sample(comfy, loader, latent, text), draw(comfy, loader, loader))
    assert same(want, got)


def test_a_replaced_file_is_loaded_again(comfy, start, headless, folder):
    loader, text, latent = start
    lora = load(comfy, loader, "changing.safetensors", clip=False)
    runs = []
    for seed in (0, 1):
        loras.write(folder / "changing.safetensors", "kohya", factors(headless.transformer, UVIT, seed=seed))
        runs.append(comfy.run(graphs.sample(comfy, lora, latent, text)))
    assert not same(*runs)


def test_the_list_of_files(comfy, folder, file):
    """Only what can be read; 'none' first."""
    (folder / "old.pt").write_bytes(b"")
    options = comfy.module("nodes.host.load.lora").names()
    assert options[:2] == ["none", "embedded: dotted"]
    assert "style.safetensors" in options and "old.pt" not in options


def test_the_one_that_comes_with_the_pack(comfy, start):
    """It changes the embedded model's pictures for its word, hardly for others; it fits no other model."""
    loader = graphs.load(comfy, "embedded")
    lora, latent = load(comfy, loader, "embedded: dotted"), graphs.empty(comfy, loader, 128, 128)
    changed = []
    for ground in ("dotted", "red"):
        text = graphs.prompts(comfy, loader, f"a frog on a {ground} background")
        runs = [graphs.sample(comfy, model, latent, text, steps=12, cfg=1.5) for model in (loader, lora)]
        pictures = [comfy.node("AmusedVQDecode", samples=run, vae=(loader, 2), tile_size=0) for run in runs]
        before, after = comfy.run(*pictures)
        changed.append((before - after).abs().mean())
    assert changed[0] > 2 * changed[1]
    refused(comfy, load(comfy, start[0], "embedded: dotted"), "dotted.safetensors")
