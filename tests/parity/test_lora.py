"""LoRAs as peft and diffusers write and apply them, against ours merged into the weights."""

from __future__ import annotations

import json

import diffusers
import peft
import pytest
import torch
from diffusers import UVit2DModel
from diffusers.loaders.lora_pipeline import AmusedLoraLoaderMixin
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

from amused_core import load_model
from tests.loras import ATTENTION, TEXT, UVIT
from tests.parity.oracle import PROMPTS, SEED, generator, quiet

CONFIGS = {
    "plain": {},
    "alpha": {"lora_alpha": 6},
    "root of the rank": {"lora_alpha": 6, "use_rslora": True},
    "patterns": {"lora_alpha": 6, "rank_pattern": {"to_q": 3}, "alpha_pattern": {"attn1.to_q": 12, "^encoder_proj": 2}},
}


def targets(downsample):
    """Modules of every kind; the 2x2 convolution is in the 512 shape only."""
    return [*UVIT, *(["down_block.downsample.conv"] if downsample else [])]


def randomise(module, seed=0, adapter="default"):
    """Both factors of an adapter, large enough to count."""
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if name.endswith((f".lora_A.{adapter}.weight", f".lora_B.{adapter}.weight")):
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=draw)
    return module


def transformer(oracle):
    return UVit2DModel.from_pretrained(oracle.folder / "transformer").eval()


@torch.no_grad()
def logits(model, tokens, hidden, pooled, micro):
    if isinstance(model, (UVit2DModel, peft.PeftModel)):
        return model(tokens, encoder_hidden_states=hidden, pooled_text_emb=pooled, micro_conds=micro)
    return model(tokens, hidden, pooled, micro)


@pytest.fixture(scope="module")
def given():
    """Tokens, text, pooled text and micro-conditioning."""
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(72, (2, 8, 8), generator=draw)
    text, pooled = torch.randn(2, 7, 32, generator=draw), torch.randn(2, 32, generator=draw)
    return tokens, text, pooled, torch.tensor([[32.0, 32, 3, 5, 6]]).expand(2, -1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_of_peft(oracle, given, tmp_path, name):
    """`PeftModel.save_pretrained`: the settings lie beside the weights."""
    plain = transformer(oracle)
    before = logits(plain, *given)
    config = LoraConfig(r=4, target_modules=targets(plain.config.downsample), **CONFIGS[name])
    wrapped = randomise(peft.get_peft_model(plain, config)).eval()
    want = logits(wrapped, *given)
    wrapped.save_pretrained(tmp_path)
    model = load_model(oracle.folder, device="cpu")
    lora = model.load_lora(tmp_path)
    assert len(lora.parts["transformer"]) == len(config.target_modules) and not lora.unused
    assert (logits(model.transformer, *given) - want).abs().max() < 1e-4
    assert (want - before).abs().max() > 0.5
    model.unload_loras()
    assert (logits(model.transformer, *given) - before).abs().max() < 1e-4


@pytest.mark.parametrize("told", ["ours", "diffusers"])
def test_one_file_in_diffusers_format(oracle, given, tmp_path, told):
    """What peft puts into a module, under the names of diffusers, alpha in the metadata; half the strength."""
    plain = transformer(oracle)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=targets(plain.config.downsample))
    randomise(peft.inject_adapter_in_model(config, plain)).eval()
    state = {key: value.contiguous() for key, value in peft.get_peft_model_state_dict(plain).items()}
    metadata = {"lora_alpha": "6", "rank": "4"}
    if told == "diffusers":
        settings = {f"transformer.{key}": value for key, value in config.to_dict().items()}
        metadata = {"lora_adapter_metadata": json.dumps(settings, default=list)}
    save_file({f"transformer.{key}": value for key, value in state.items()}, tmp_path / "a.safetensors", metadata)
    for module in plain.modules():
        if isinstance(module, BaseTunerLayer):
            module.set_scale("default", 0.5)
    model = load_model(oracle.folder, device="cpu")
    assert not model.load_lora(tmp_path / "a.safetensors", 0.5).unused
    assert (logits(model.transformer, *given) - logits(plain, *given)).abs().max() < 1e-4


def test_two_adapters_at_once(small, given, tmp_path):
    """Of different ranks and strengths, on modules that they share and on modules of their own."""
    plain, model = transformer(small), load_model(small.folder, device="cpu")
    strengths = {"one": 1.0, "two": -0.7}
    for rank, (name, strength) in enumerate(strengths.items(), 2):
        config = LoraConfig(r=rank, lora_alpha=4, target_modules=list(UVIT[rank - 2 :: rank - 1]))
        peft.inject_adapter_in_model(config, plain, adapter_name=name)
        randomise(plain, rank, name)
        state = peft.get_peft_model_state_dict(plain, adapter_name=name)
        file = tmp_path / f"{name}.safetensors"
        save_file({f"transformer.{key}": value.clone() for key, value in state.items()}, file, {"lora_alpha": "4"})
        assert not model.load_lora(file, strength).unused
    for module in plain.modules():
        if isinstance(module, BaseTunerLayer):
            module.set_adapter(list(module.scaling))
            for name in module.scaling:
                module.set_scale(name, strengths[name])
    assert (logits(model.transformer, *given) - logits(plain.eval(), *given)).abs().max() < 1e-4


def test_tokens(small, tmp_path):
    """diffusers' pipeline with adapters in transformer and text encoder draws what `load_lora` draws."""
    pipe = quiet(diffusers.AmusedPipeline.from_pretrained(small.folder))
    run = {"num_inference_steps": 5, "guidance_scale": 3.0, "output_type": "latent"}
    plain = pipe(PROMPTS, **run, generator=generator()).images
    state = {}
    for part, names in {"transformer": UVIT, "text_encoder": TEXT}.items():
        module = getattr(pipe, part)
        config = LoraConfig(r=4, lora_alpha=8, target_modules=list(names))
        randomise(peft.inject_adapter_in_model(config, module)).eval()
        state |= {f"{part}.{k}": v.clone() for k, v in peft.get_peft_model_state_dict(module).items()}
    save_file(state, tmp_path / "a.safetensors", {"lora_alpha": "8"})
    want = pipe(PROMPTS, **run, generator=generator()).images
    model = load_model(small.folder, device="cpu")
    assert not model.load_lora(tmp_path / "a.safetensors").unused
    call = {"steps": 5, "cfg": 3.0, "temperature": (2, 0), "seeding": "diffusers", "seed": SEED}
    assert torch.equal(model.generate(PROMPTS, **call).tokens, want)
    assert not torch.equal(plain, want)


def test_the_training_script_of_diffusers(small, given, tmp_path):
    """examples/amused saves with `AmusedLoraLoaderMixin`, without its alpha: diffusers then takes the rank."""
    plain = transformer(small)
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v"])
    randomise(peft.inject_adapter_in_model(config, plain)).eval()
    AmusedLoraLoaderMixin.save_lora_weights(tmp_path, transformer_lora_layers=peft.get_peft_model_state_dict(plain))
    model = load_model(small.folder, device="cpu")
    lora = model.load_lora(tmp_path)
    assert lora.name == "pytorch_lora_weights.safetensors" and len(lora.parts["transformer"]) == 24
    assert not lora.unused and ATTENTION[0] + ".weight" in lora.parts["transformer"]
    assert (logits(model.transformer, *given) - logits(plain, *given)).abs().max() < 1e-4
