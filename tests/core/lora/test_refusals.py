"""LoRAs that are refused; the weights stay as they were."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from amused_core import AmusedError
from tests import loras
from tests.loras import ATTENTION, STRANGER, TEXT, UVIT, changed, factors, weights


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


@pytest.mark.parametrize(
    "key",
    ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight", "single_transformer_blocks.0.attn.to_q.bias"],
)
def test_another_whole_model_is_refused_as_one(model, tmp_path, key):
    save_file({key: torch.ones(2, 2)}, file := tmp_path / "other.safetensors")
    refused(model, file, "It looks like a whole model, not a LoRA.")


def test_this_whole_model_is_refused_as_one(model, tmp_path):
    """Its VQ-GAN has the same names as Stable Diffusion's."""
    model.save(tmp_path / "all.safetensors")
    refused(model, tmp_path / "all.safetensors", "It looks like a whole model, not a LoRA.")


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
