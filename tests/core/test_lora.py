"""Loading LoRAs: formats, alphas, strengths, stacking, removal, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from amused_core import AmusedError, load_model
from amused_core.cli import main
from amused_core.lora.argument import split_lora
from tests import loras
from tests.loras import ATTENTION, FORMS, STRANGER, TEXT, UVIT, factors

RUN = {"prompt": "a cat", "steps": 3, "cfg": 3.0, "seed": 4}


@pytest.fixture(scope="module")
def shared(folder):
    """A model of this file's own; every test leaves it as it was."""
    return load_model(folder, device="cpu")


@pytest.fixture
def model(shared):
    yield shared
    shared.unload_loras()


def weights(model):
    """(part, name) -> a copy of every weight that a LoRA may change."""
    parts = {"transformer": model.transformer, "text_encoder": model.text.module}
    return {(part, name): p.clone() for part, module in parts.items() for name, p in module.named_parameters()}


def changed(before, after):
    """(part, module) of the weights that differ."""
    return {
        (part, name.removesuffix(".weight")) for (part, name), p in after.items() if not p.equal(before[part, name])
    }


def check(model, before, pairs, scale, part="transformer"):
    """Every weight is `W + scale * up @ down`."""
    after = weights(model)
    for name, (down, up) in pairs.items():
        delta = (up.flatten(1).double() @ down.flatten(1).double()).reshape(before[part, f"{name}.weight"].shape)
        want = before[part, f"{name}.weight"].double() + scale * delta
        assert (after[part, f"{name}.weight"].double() - want).abs().max() < 1e-6, name


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


def refused(model, path, *parts):
    """One sentence with every part of `parts`; the weights are as before."""
    before = weights(model)
    with pytest.raises(AmusedError) as caught:
        model.load_lora(path)
    text = str(caught.value)
    for part in parts:
        assert part in text, f"{part!r} is not in {text!r}"
    assert "\n" not in text and (text.endswith(".") or "cannot be read" in text), text
    assert not changed(before, weights(model)) and not model.loras.uses


FOREIGN = {
    "Stable Diffusion.": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
    "Stable Diffusion XL.": "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
    "Flux": "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
    "Wan": "diffusion_model.blocks.0.cross_attn.k.lora_A.weight",
    "LoHa": "lora_unet_transformer_layers_0_attn1_to_q.hada_w1_a",
    "DoRA": "transformer.transformer_layers.0.attn1.to_q.lora_magnitude_vector",
    "a whole model": "transformer_layers.0.attn1.to_q.weight",
    "no weight of this model": "something.lora_A.weight",
}


X = f"transformer.{ATTENTION[0]}"


@pytest.mark.parametrize("base", FOREIGN)
def test_another_models_lora_is_refused(model, tmp_path, base):
    save_file({FOREIGN[base]: torch.ones(2, 2)}, file := tmp_path / "other.safetensors")
    refused(model, file, "does not fit aMUSEd", repr(str(file)), FOREIGN[base], base)


def test_a_text_encoder_in_common_is_not_enough(model, tmp_path):
    """Stable Diffusion's text encoder is of the kind that aMUSEd has: that half of its LoRA would fit."""
    content = loras.tensors("kohya", None, factors(model.text.module, TEXT))
    content |= {f"{STRANGER}.{end}": torch.ones(4, 4) for end in ("lora_down.weight", "lora_up.weight")}
    save_file(content, tmp_path / "a.safetensors")
    refused(model, tmp_path / "a.safetensors", "a LoRA for Stable Diffusion", STRANGER)


TWIN = {"lora_unet_transformer_layers_0_attn1_to_q.lora_down.weight": torch.ones(2, 32)}
DAMAGED = {
    "NaN": (lambda t: t.update({"X.lora_A.weight": torch.full((2, 32), torch.nan)}), ["X.lora_A.weight", "NaN"]),
    "infinite": (lambda t: t.update({"X.lora_B.weight": torch.full((32, 2), torch.inf)}), ["X.lora_B.weight", "inf"]),
    "ranks": (lambda t: t.update({"X.lora_A.weight": torch.ones(3, 32)}), ["cannot be multiplied", "[3, 32]"]),
    "dimensions": (lambda t: t.update({"X.lora_A.weight": torch.ones(2)}), ["cannot be multiplied"]),
    "empty": (
        lambda t: t.update({"X.lora_A.weight": torch.ones(0, 32), "X.lora_B.weight": torch.ones(32, 0)}),
        ["cannot be multiplied"],
    ),
    "integers": (lambda t: t.update({"X.lora_A.weight": torch.ones(2, 32, dtype=torch.int8)}), ["int8"]),
    "half": (lambda t: t.pop("X.lora_B.weight"), ["X.lora_A.weight", "counterpart"]),
    "size": (
        lambda t: t.update({"X.lora_A.weight": torch.ones(2, 1024), "X.lora_B.weight": torch.ones(1024, 2)}),
        ["another size", "[1024, 1024]", "[32, 32]"],
    ),
    "alpha": (lambda t: t.update({"X.alpha": torch.ones(3)}), ["X.alpha", "one number"]),
    "alpha NaN": (lambda t: t.update({"X.alpha": torch.tensor(torch.nan)}), ["X.alpha", "NaN"]),
    "twice": (lambda t: t.update(TWIN), ["twice"]),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_weights_are_refused(model, tmp_path, damage):
    """Although the other weights of the file are good."""
    content = {k.replace(X, "X"): v for k, v in loras.tensors("diffusers", factors(model.transformer, UVIT)).items()}
    change, parts = DAMAGED[damage]
    change(content)
    save_file({k.replace("X", X, 1) if k[0] == "X" else k: v for k, v in content.items()}, tmp_path / "a.safetensors")
    refused(model, tmp_path / "a.safetensors", "a.safetensors", *(part.replace("X.", f"{X}.") for part in parts))


def test_unreadable_files_are_refused(model, tmp_path):
    good = loras.write(tmp_path / "good" / "a.safetensors", "kohya", factors(model.transformer, ATTENTION))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-50])
    refused(model, cut, "cut.safetensors", "safetensors")
    refused(model, tmp_path / "none.safetensors", "No LoRA at", "none.safetensors")
    (tmp_path / "a.bin").write_bytes(b"1")
    refused(model, tmp_path / "a.bin", "a.bin", ".safetensors")
    refused(model, "", "''")
    refused(model, "a\0b", "No LoRA at")
    save_file({}, tmp_path / "empty.safetensors")
    refused(model, tmp_path / "empty.safetensors", "no weights")
    loras.write(tmp_path / "good" / "b.safetensors", "kohya", factors(model.transformer, ATTENTION))
    refused(model, tmp_path / "good", "a.safetensors, b.safetensors")


@pytest.mark.parametrize("told", [{"lora_alpha": "much"}, {"lora_alpha": "nan"}, {"lora_adapter_metadata": "{"}])
def test_unreadable_metadata_are_refused(model, tmp_path, told):
    pairs = factors(model.transformer, ATTENTION)
    refused(model, loras.write(tmp_path / "a.safetensors", "diffusers", pairs, **told), "settings", "a.safetensors")


def test_unreadable_peft_settings_are_refused(model, tmp_path):
    loras.write(tmp_path / "adapter_model.safetensors", "peft", factors(model.transformer, ATTENTION))
    for text in ("{", "[]", '{"lora_alpha": "x"}', '{"alpha_pattern": {"(": 1}}', '{"alpha_pattern": [1]}'):
        (tmp_path / "adapter_config.json").write_text(text)
        refused(model, tmp_path, "settings", "adapter_model.safetensors")


@pytest.mark.parametrize("strength", [101, float("nan"), "strong", None])
def test_strengths_out_of_range_are_refused(model, tmp_path, strength):
    file = loras.write(tmp_path / "a.safetensors", "kohya", factors(model.transformer, ATTENTION))
    with pytest.raises(AmusedError, match="strength is .* -100 to 100"):
        model.load_lora(file, strength)
    assert not model.loras.uses


def test_a_failure_half_way_leaves_the_weights(model, tmp_path, monkeypatch):
    """As when memory runs out at the third weight."""
    from amused_core.lora.change import LowRank

    file = loras.write(tmp_path / "a.safetensors", "kohya", factors(model.transformer, UVIT))
    before, calls, original = weights(model), [], LowRank.added_to

    def fail(self, *args):
        calls.append(1)
        if len(calls) > 2:
            raise MemoryError
        return original(self, *args)

    monkeypatch.setattr(LowRank, "added_to", fail)
    with pytest.raises(MemoryError):
        model.load_lora(file)
    assert not changed(before, weights(model)) and not model.loras.uses


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.5", ("a.safetensors", 0.5)),
        ("a.safetensors:-2", ("a.safetensors", -2.0)),
        (r"C:\x.safetensors", (r"C:\x.safetensors", 1.0)),
        (r"C:\x.safetensors:0.5", (r"C:\x.safetensors", 0.5)),
        ("a.safetensors:", ("a.safetensors:", 1.0)),
        (":0.5", (":0.5", 1.0)),
    ],
)
def test_file_and_strength_of_the_command_line(text, want):
    assert split_lora(text) == want


def test_the_command_line(model, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, second = (factors(model.transformer, UVIT, seed=seed) for seed in (0, 1))
    loras.write(Path("one.safetensors"), "diffusers", first)
    save_file(loras.tensors("kohya", second) | {"odd.lora_up.weight": torch.ones(2, 2)}, "two.safetensors")
    options = ["--model", str(folder), "--steps", "3", "--cfg", "3", "--seed", "4", "--save-tokens", "x.npy"]
    assert main(["generate", *options, "--lora", "one.safetensors", "--lora", "two.safetensors:-0.5", "a cat"]) == 0
    model.load_lora("one.safetensors")
    model.load_lora("two.safetensors", -0.5)
    import numpy as np

    assert torch.from_numpy(np.load("x.npy")).equal(model.generate(**RUN).tokens)
    about = json.loads(Image.open("amused.png").text["amused"])
    assert about["loras"] == [
        {"name": "one.safetensors", "strength": 1.0},
        {"name": "two.safetensors", "strength": -0.5},
    ]
    error = capsys.readouterr().err
    assert (
        error.count("1 key of the LoRA 'two.safetensors' fits nothing here and is left out: odd.lora_up.weight.") == 1
    )
    assert main(["generate", *options, "--lora", "three.safetensors:0.5", "a cat"]) == 2
    assert capsys.readouterr().err.startswith("amused: No LoRA at 'three.safetensors'; ")


def test_a_saved_model_is_without_loras(model, folder, tmp_path):
    model.load_lora(loras.write(tmp_path / "a.safetensors", "kohya", factors(model.transformer, UVIT)))
    model.save(tmp_path / "model.safetensors")
    saved, plain = load_file(tmp_path / "model.safetensors"), load_model(folder, device="cpu")
    for name, value in plain.transformer.named_parameters():
        assert saved[f"transformer.{name}"].equal(value)
