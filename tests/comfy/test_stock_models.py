"""Stock nodes that patch, merge and save a MODEL or a VAE."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs
from tests.comfy.graphs import same
from tests.comfy.runs import lora_file


def test_skipped_layers_have_an_effect(comfy, start):
    loader, text, latent = start
    layers = {"double_layers": "1", "single_layers": "", "start_percent": 0.0, "end_percent": 1.0}
    own = {"model": loader, "rescaling_scale": 0.0, **layers}
    strong, none = (comfy.node("SkipLayerGuidanceDiT", scale=scale, **own) for scale in (3.0, 0.0))
    runs = (graphs.custom(comfy, loader, latent, text, model=model) for model in (loader, strong, none))
    plain, patched, nothing = comfy.run(*runs)
    assert not same(plain, patched)
    assert same(plain, nothing)


@pytest.mark.parametrize("name", ["attn1", "attn2"])
def test_attention_patches_replace_one_attention(comfy, start, name):
    """("middle", 0) is the layer in the middle of the trunk: the patch gets its q, k and v, once."""
    loader, text, _ = start
    model, text = comfy.run(loader, text)
    tokens, micro = torch.full((1, 8, 8), 71), torch.tensor([[32.0, 32, 0, 0, 6]])
    seen = []

    def patch(q, k, v, options):
        seen.append((q.shape, k.shape, options["n_heads"], options["block"]))
        return torch.zeros_like(q)

    def logits(patches):
        hidden, pooled = text[0][0], text[0][1]["pooled_output"]
        return model.model.diffusion_model(tokens, hidden, pooled, micro, {"patches_replace": patches})

    assert not torch.allclose(logits({}), logits({name: {("middle", 0): patch}}))
    assert seen == [((1, 64, 32), (1, 64 if name == "attn1" else 24, 32), 2, ("middle", 0))]


def test_perturbed_attention_guidance(comfy, start):
    loader, text, _ = start
    # The tiny model's attention matters little: with so many cells some tokens are sure to change.
    latent = graphs.empty(comfy, loader, width=64, height=64, batch=4)
    strong, none = (comfy.node("PerturbedAttentionGuidance", model=loader, scale=scale) for scale in (100.0, 0.0))
    runs = (graphs.custom(comfy, loader, latent, text, model=model, steps=12) for model in (loader, strong, none))
    plain, patched, nothing = comfy.run(*runs)
    assert not same(plain, patched)
    assert same(plain, nothing)


GUIDANCE = {
    "RescaleCFG": {"multiplier": 0.7},
    "TCFG": {},
    "Mahiro": {},
    "APG": {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.0},
    "CFGZeroStar": {},
    "CFGNorm": {"strength": 1.0},
    "UNetSelfAttentionMultiply": {"q": 1.2, "k": 1.0, "v": 1.0, "out": 1.0},
    "DifferentialDiffusion": {},
    "ContextWindowsManual": {
        "context_length": 4,
        "context_overlap": 2,
        "context_schedule": "standard_static",
        "context_stride": 1,
        "closed_loop": False,
        "fuse_method": "pyramid",
        "dim": 2,
    },
    "ModelComputeDtype": {"dtype": "fp32"},
}


@pytest.mark.parametrize("node", GUIDANCE)
def test_model_patches_run(comfy, start, node):
    if node not in comfy.nodes.NODE_CLASS_MAPPINGS:
        pytest.skip(f"this ComfyUI has no {node}")
    loader, text, latent = start
    patched = comfy.node(node, model=loader, **(comfy.defaults(node) | GUIDANCE[node]))
    got = comfy.run(graphs.custom(comfy, loader, latent, text, model=patched))
    assert got["samples"].min() >= 1


def test_merging(comfy, start):
    """a + (b - a) is b; a halfway merge is neither."""
    loader, _, latent = start
    # The other model's cells are larger, so the size it is told must be said.
    text, other = graphs.prompts(comfy, loader, width=32, height=32), graphs.load(comfy, "tiny8")
    difference = comfy.node("ModelMergeSubtract", model1=other, model2=loader, multiplier=1.0)
    whole = comfy.node("ModelMergeAdd", model1=loader, model2=difference)
    half = comfy.node("ModelMergeSimple", model1=loader, model2=other, ratio=0.5)
    runs = (graphs.custom(comfy, loader, latent, text, model=model) for model in (loader, other, whole, half))
    a, b, sum_, mean = comfy.run(*runs)
    assert same(b, sum_)
    assert not same(mean, a) and not same(mean, b)


def test_lora_and_hooks(comfy, start):
    """A LoRA changes the picture, and does the same as a hook."""
    loader, text, latent = start
    lora_file(comfy, comfy.run(loader))
    patched = comfy.node("LoraLoaderModelOnly", model=loader, lora_name="style.safetensors", strength_model=0.5)
    hook = comfy.node("CreateHookLoraModelOnly", lora_name="style.safetensors", strength_model=0.5)
    hooked = [
        comfy.node("ConditioningSetProperties", cond_NEW=cond, strength=1.0, set_cond_area="default", hooks=hook)
        for cond in (text, (text, 1))
    ]
    plain, lora, hook = comfy.run(
        graphs.custom(comfy, loader, latent, text),
        graphs.custom(comfy, loader, latent, text, model=patched),
        graphs.custom(comfy, loader, latent, positive=hooked[0], negative=hooked[1]),
    )
    assert not same(plain, lora)
    assert same(lora, hook)


def test_model_save(comfy, start):
    """The saved weights have the keys of diffusers' U-ViT behind ComfyUI's prefix."""
    from safetensors.torch import load_file

    loader, _, _ = start
    comfy.finish(comfy.node("ModelSave", model=loader, filename_prefix="weights"))
    saved = load_file(next((comfy.models / "output").rglob("weights*.safetensors")))
    ours = load_file(comfy.models / "amused" / "tiny" / "transformer" / "diffusion_pytorch_model.safetensors")
    prefix = "model.diffusion_model."
    assert {key.removeprefix(prefix) for key in saved if key.startswith(prefix)} == set(ours)
    assert all(torch.equal(saved[prefix + key], value) for key, value in ours.items())


def test_vae_save(comfy, start):
    from safetensors.torch import load_file

    loader, _, _ = start
    comfy.finish(comfy.node("VAESave", vae=(loader, 2), filename_prefix="vae"))
    saved = load_file(next((comfy.models / "output").rglob("vae*.safetensors")))
    ours = load_file(comfy.models / "amused" / "tiny" / "vqvae" / "diffusion_pytorch_model.safetensors")
    assert set(saved) - {"amused"} == set(ours), "and what GraphFile reads them with"
