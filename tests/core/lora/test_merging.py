"""LoRAs in the weights: formats, alphas, strengths, stacking, removal."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from amused_core import AmusedError, load_model
from tests import loras
from tests.loras import ATTENTION, FORMS, STRANGER, TEXT, UVIT, changed, check, factors, weights

RUN = {"prompt": "a cat", "steps": 3, "cfg": 3.0, "seed": 4}


@pytest.mark.parametrize("form", FORMS)
def test_every_format(model, tmp_path, form):
    names, text = (ATTENTION, TEXT[:2]) if form == "processor" else (UVIT, TEXT)
    one, two = factors(model.transformer, names), factors(model.text.module, text, seed=1)
    before = weights(model)
    lora = model.load_lora(loras.write(tmp_path / "style.safetensors", form, one, two))
    assert (lora.name, lora.unused, lora.warning()) == ("style.safetensors", (), None)
    assert changed(before, weights(model)) == {("transformer", n) for n in names} | {("text_encoder", n) for n in text}
    check(model, before, one, 1.0)
    check(model, before, two, 1.0, "text_encoder")


def test_names_without_the_text_models_level(model, tmp_path):
    """Newer transformers versions leave it out."""
    two = {name.removeprefix("text_model."): pair for name, pair in factors(model.text.module, TEXT).items()}
    before = weights(model)
    assert model.load_lora(loras.write(tmp_path / "a.safetensors", "diffusers", None, two)).unused == ()
    assert changed(before, weights(model)) == {("text_encoder", name) for name in TEXT}


def test_alpha_tensors_go_first(model, tmp_path):
    """kohya's: one number for each module; without one the rank; integers and other shapes of one number too."""
    pairs = factors(model.transformer, UVIT[:3], rank=4)
    content = loras.tensors("kohya", pairs)
    stems = ["lora_unet_" + name.replace(".", "_") for name in UVIT[:3]]
    content |= {f"{stems[0]}.alpha": torch.tensor(1.0), f"{stems[1]}.alpha": torch.tensor([8], dtype=torch.int64)}
    save_file(content, tmp_path / "a.safetensors", metadata={"lora_alpha": "4"})
    before = weights(model)
    model.load_lora(tmp_path / "a.safetensors", strength=-0.5)
    for name, scale in zip(UVIT[:3], (0.25, 2.0, 1.0), strict=True):
        check(model, before, {name: pairs[name]}, -0.5 * scale)


def test_alpha_of_our_own_metadata(model, tmp_path):
    pairs = factors(model.transformer, UVIT, rank=4)
    before = weights(model)
    model.load_lora(loras.write(tmp_path / "a.safetensors", "diffusers", pairs, lora_alpha="6", rank="4"))
    check(model, before, pairs, 1.5)


def test_alpha_of_diffusers_metadata(model, tmp_path):
    one, two = factors(model.transformer, ATTENTION, rank=4), factors(model.text.module, TEXT, rank=4)
    told = {"transformer.r": 4, "transformer.lora_alpha": 8, "transformer.alpha_pattern": {"attn2.to_out.0": 2}}
    told |= {"text_encoder.lora_alpha": 8, "text_encoder.use_rslora": True}
    file = loras.write(tmp_path / "a.safetensors", "diffusers", one, two, lora_adapter_metadata=json.dumps(told))
    before = weights(model)
    model.load_lora(file)
    check(model, before, {ATTENTION[0]: one[ATTENTION[0]]}, 2.0)
    check(model, before, {ATTENTION[1]: one[ATTENTION[1]]}, 0.5)
    check(model, before, two, 8 / 4**0.5, "text_encoder")


def test_alpha_of_a_peft_folder(model, tmp_path):
    pairs = factors(model.transformer, UVIT, rank=4)
    config = {"r": 4, "lora_alpha": 16, "alpha_pattern": {"attn1.to_q": 1}, "peft_type": "LORA"}
    loras.write(tmp_path / "adapter_model.safetensors", "peft", pairs, lora_alpha="4")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    before = weights(model)
    model.load_lora(tmp_path)
    check(model, before, {name: pair for name, pair in pairs.items() if "attn1" not in name}, 4.0)
    check(model, before, {ATTENTION[0]: pairs[ATTENTION[0]]}, 0.25)


def test_written_out_differences(model, tmp_path):
    """ComfyUI's extraction writes small weights whole."""
    norm = torch.randn(32, generator=torch.Generator().manual_seed(1))
    bias = torch.ones(32)
    content = {"diffusion_model.transformer_layers.0.norm1.norm.diff": norm}
    content |= {"text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj.diff_b": bias}
    save_file(content, tmp_path / "a.safetensors")
    before = weights(model)
    with pytest.raises(AmusedError, match=r"another size.*\[7\].*\[32\]"):
        save_file({list(content)[0]: torch.ones(7)}, tmp_path / "b.safetensors")
        model.load_lora(tmp_path / "b.safetensors")
    model.load_lora(tmp_path / "a.safetensors", 2.0, 3.0)
    after = weights(model)
    names = [
        ("transformer", "transformer_layers.0.norm1.norm.weight", 2 * norm),
        ("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj.bias", 3 * bias),
    ]
    for part, name, delta in names:
        assert torch.allclose(after[part, name], before[part, name] + delta)
    assert len(changed(before, after)) == 2


def test_strengths_of_the_parts(model, tmp_path):
    one, two = factors(model.transformer, UVIT), factors(model.text.module, TEXT)
    file = loras.write(tmp_path / "a.safetensors", "diffusers", one, two)
    before = weights(model)
    model.load_lora(file, strength=0)
    assert not changed(before, weights(model))
    model.load_lora(file, strength=0, text_strength=-0.5)
    assert {part for part, _ in changed(before, weights(model))} == {"text_encoder"}
    check(model, before, two, -0.5, "text_encoder")


def test_stacking_and_removal(model, tmp_path):
    """The order does not matter beyond rounding, equal and opposite is nothing, and removal is exact."""
    first, second = (factors(model.transformer, UVIT[i:], seed=i) for i in (0, 4))
    files = [loras.write(tmp_path / f"{i}.safetensors", "kohya", pairs) for i, pairs in enumerate((first, second))]
    before, tokens = weights(model), model.generate(**RUN).tokens
    model.load_lora(files[0], 0.5)
    only = model.generate(**RUN).tokens
    model.load_lora(files[1], -1.0)
    both = weights(model)
    assert [use.strengths["transformer"] for use in model.loras.uses] == [0.5, -1.0]
    stacked = model.generate(**RUN).tokens
    assert not only.equal(tokens) and not stacked.equal(only)
    model.unload_loras()
    assert not changed(before, weights(model)) and not model.loras.uses
    assert model.generate(**RUN).tokens.equal(tokens)
    for file, strength in ((files[1], -1.0), (files[0], 0.5)):
        model.load_lora(file, strength)
    assert all(torch.allclose(both[key], value, atol=1e-6) for key, value in weights(model).items())
    assert model.generate(**RUN).tokens.equal(stacked)
    for file, strength in ((files[1], 1.0), (files[0], -0.5)):
        model.load_lora(file, strength)
    assert all(torch.allclose(before[key], value, atol=1e-6) for key, value in weights(model).items())


def test_a_fresh_model_draws_the_same(model, folder, tmp_path):
    """Nothing that was remembered of the prompts before the LoRA is used after it, in either part."""
    one, two = factors(model.transformer, UVIT), factors(model.text.module, TEXT)
    for name, parts in {"unet": (one, None), "text": (None, two)}.items():
        file = loras.write(tmp_path / f"{name}.safetensors", "diffusers", *parts)
        fresh = load_model(folder, device="cpu")
        fresh.load_lora(file)
        plain = model.generate(**RUN).tokens
        model.load_lora(file)
        got = model.generate(**RUN).tokens
        assert got.equal(fresh.generate(**RUN).tokens) and not got.equal(plain)
        model.unload_loras()


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_is_rounded_once(folder, tmp_path, dtype):
    """Two LoRAs give the weight of their sum, computed in float32; removal is exact here too."""
    model = load_model(folder, dtype=dtype, device="cpu")
    pairs = [factors(model.transformer, ATTENTION, seed=seed) for seed in (0, 1)]
    before = weights(model)
    for seed, pair in enumerate(pairs):
        model.load_lora(loras.write(tmp_path / f"{seed}.safetensors", "kohya", pair), 0.3)
    for name in ATTENTION:
        old = before["transformer", f"{name}.weight"]
        first, second = (0.3 * (pair[name][1] @ pair[name][0]) for pair in pairs)
        want = (old.float() + first + second).to(old.dtype)
        twice = (old.float() + first).to(old.dtype).float() + second
        assert model.transformer.get_parameter(f"{name}.weight").equal(want)
        assert not want.equal(twice.to(old.dtype))
    model.unload_loras()
    assert not changed(before, weights(model))


def test_weights_are_changed_in_place(model, tmp_path):
    """What watches parameters sees it: they stay the same objects, with a new version. Files stay as they are."""
    file = model.checkpoint.path / "transformer" / "diffusion_pytorch_model.safetensors"
    on_disk = hashlib.sha256(file.read_bytes()).hexdigest()
    weight = model.transformer.get_parameter(f"{ATTENTION[0]}.weight")
    version, place = weight._version, weight.data_ptr()
    model.load_lora(loras.write(tmp_path / "a.safetensors", "kohya", factors(model.transformer, ATTENTION)))
    loaded = weight._version
    assert model.transformer.get_parameter(f"{ATTENTION[0]}.weight") is weight and weight.data_ptr() == place
    model.unload_loras()
    assert version < loaded < weight._version
    assert hashlib.sha256(file.read_bytes()).hexdigest() == on_disk


def test_keys_that_do_not_fit_are_listed(model, tmp_path):
    """Also what belongs to factors that only make sense with something that is not read."""
    pairs = factors(model.transformer, ATTENTION)
    content = loras.tensors("kohya", pairs)
    dora = "lora_unet_" + ATTENTION[0].replace(".", "_")
    content |= {f"{STRANGER}.lora_down.weight": torch.ones(2, 4), f"{dora}.dora_scale": torch.ones(32, 1)}
    save_file(content, tmp_path / "a.safetensors")
    before = weights(model)
    lora = model.load_lora(tmp_path / "a.safetensors")
    left_out = {f"{dora}.{end}" for end in ("dora_scale", "lora_down.weight", "lora_up.weight")}
    assert set(lora.unused) == left_out | {f"{STRANGER}.lora_down.weight"}
    assert changed(before, weights(model)) == {("transformer", ATTENTION[1])}
    assert lora.warning().startswith("4 keys of the LoRA 'a.safetensors' fit nothing here and are left out: ")


def test_what_was_loaded_is_shown_without_its_weights(model, tmp_path):
    lora = model.load_lora(loras.write(tmp_path / "a.safetensors", "kohya", factors(model.transformer, UVIT)))
    assert repr(lora) == "Lora(name='a.safetensors', unused=())"
