"""Stock nodes on a MODEL that cannot work on tokens: each gets a sentence that names it, or works."""

from __future__ import annotations

import logging

import pytest
import torch

from tests.comfy import graphs
from tests.comfy.graphs import refused, same

SAMPLING = {
    "ModelSamplingSD3": {"shift": 3.0},
    "ModelSamplingAuraFlow": {"shift": 1.73},
    "ModelSamplingFlux": {"max_shift": 1.15, "base_shift": 0.5, "width": 1024, "height": 1024},
    "ModelSamplingLTXV": {"max_shift": 2.05, "base_shift": 0.95},
    "ModelSamplingStableCascade": {"shift": 2.0},
    "ModelSamplingDiscrete": {"sampling": "eps", "zsnr": False},
    "ModelSamplingContinuousEDM": {"sampling": "v_prediction", "sigma_max": 120.0, "sigma_min": 0.002},
    "ModelSamplingContinuousV": {"sampling": "v_prediction", "sigma_max": 500.0, "sigma_min": 0.03},
}
CACHE = {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}
CANNOT = {
    "EasyCache": (CACHE, "'aMUSEd speed'"),
    "LazyCache": (CACHE, "'aMUSEd speed'"),
    "SelfAttentionGuidance": ({"scale": 0.5, "blur_sigma": 2.0}, "cannot be blurred"),
    "TemporalScoreRescaling": ({"tsr_k": 0.95, "tsr_sigma": 1.0}, "tokens have none"),
}
FREEU = {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2}
NO_EFFECT = {
    "DifferentialDiffusion": {},
    "ScaleROPE": {"scale_x": 3.0, "shift_x": 1.0, "scale_y": 3.0, "shift_y": 1.0, "scale_t": 1.0, "shift_t": 0.0},
    "ChromaRadianceOptions": {
        "preserve_wrapper": True,
        "start_sigma": 1.0,
        "end_sigma": 0.0,
        "nerf_tile_size": 0,
        "force_sequential_txt_ids": False,
    },
    "HyperTile": {"tile_size": 256, "swap_size": 2, "max_depth": 0, "scale_depth": False},
    "TomePatchModel": {"ratio": 0.3},
    "PatchModelAddDownscale": {
        "block_number": 3,
        "downscale_factor": 2.0,
        "start_percent": 0.0,
        "end_percent": 0.35,
        "downscale_after_skip": True,
        "downscale_method": "bicubic",
        "upscale_method": "bicubic",
    },
}


def samplers(comfy, start, model):
    """The same MODEL in every node that samples."""
    loader, text, latent = start
    builds = graphs.ksampler, graphs.custom, graphs.sample
    return [build(comfy, loader, latent, text, model=model) for build in builds]


@pytest.mark.parametrize("name", SAMPLING)
def test_a_node_that_replaces_the_sampling_is_named(comfy, start, name):
    if name not in comfy.nodes.NODE_CLASS_MAPPINGS:
        pytest.skip(f"this ComfyUI has no {name}")
    model = comfy.node(name, model=start[0], **SAMPLING[name])
    for run in samplers(comfy, start, model):
        refused(comfy, run, f"he node '{name}' replaces the sampling")


def test_a_sampling_that_is_made_anew(comfy, start):
    if "ModelNoiseScale" not in comfy.nodes.NODE_CLASS_MAPPINGS:
        pytest.skip("this ComfyUI has no ModelNoiseScale")
    refused(comfy, comfy.node("ModelNoiseScale", model=start[0], noise_scale=2.0), "no noise to scale")


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_work_says_why(comfy, start, name):
    if name not in comfy.nodes.NODE_CLASS_MAPPINGS:
        pytest.skip(f"this ComfyUI has no {name}")
    settings, words = CANNOT[name]
    for run in samplers(comfy, start, comfy.node(name, model=start[0], **settings)):
        refused(comfy, run, f"'{name}' cannot work", words)


@pytest.mark.parametrize("name", ["FreeU", "FreeU_V2"])
def test_a_node_for_unets(comfy, start, name):
    refused(comfy, comfy.node(name, model=start[0], **FREEU), "'model_channels' of a UNet")


@pytest.mark.parametrize("name", NO_EFFECT)
def test_what_has_no_effect_is_told(comfy, start, name, caplog):
    if name not in comfy.nodes.NODE_CLASS_MAPPINGS:
        pytest.skip(f"this ComfyUI has no {name}")
    patched = comfy.node(name, model=start[0], **NO_EFFECT[name])
    for plain, run in zip(samplers(comfy, start, start[0]), samplers(comfy, start, patched), strict=True):
        plain = comfy.run(plain)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert same(comfy.run(run), plain)
        assert caplog.text.count("have no effect on an aMUSEd model") == 1 and name in caplog.text


def test_the_norm_of_the_guidance(comfy, start):
    """RenormCFG without a limit is plain guidance, with one it is not; a batch is refused, as stock code would fail."""
    loader, text, latent = start
    free, limited = (comfy.node("RenormCFG", model=loader, cfg_trunc=100.0, renorm_cfg=norm) for norm in (0.0, 1.0))
    runs = [graphs.custom(comfy, loader, latent, text, model=model) for model in (loader, free, limited)]
    plain, unlimited, renormed = comfy.run(*runs)
    assert same(plain, unlimited) and not same(plain, renormed)
    two = graphs.custom(comfy, loader, graphs.empty(comfy, loader, batch=2), text, model=limited)
    refused(comfy, two, "'RenormCFG'", "one image at a time", "has 2")


def test_compiled(comfy, start):
    """torch.compile finds nothing in the U-ViT that it cannot read; what it would make of it is left out."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    loader, text, latent = start
    compiled = comfy.run(loader).clone()
    set_torch_compile_wrapper(model=compiled, backend="aot_eager")
    runs = [graphs.custom(comfy, loader, latent, text, model=model) for model in (loader, comfy.give(compiled))]
    assert same(*comfy.run(*runs))


def test_the_first_attention_of_a_block_may_be_named(comfy, start):
    """("middle", 0, 0), as UNets count, is the one of ("middle", 0)."""
    model, text = comfy.run(*start[:2])
    seen = []

    def patch(q, k, v, options):
        seen.append(q.shape)
        return torch.zeros_like(q)

    tokens, micro = torch.full((1, 8, 8), 71), torch.tensor([[32.0, 32, 0, 0, 6]])
    options = {"patches_replace": {"attn1": {("middle", 0, 0): patch}}}
    model.model.diffusion_model(tokens, text[0][0], text[0][1]["pooled_output"], micro, options)
    assert seen == [(1, 64, 32)]


def test_what_changes_the_tokens_of_our_sampler_is_named(comfy, start):
    """A node of another pack that hands the model something else."""

    class SmearTokens:
        @staticmethod
        def smear(apply, args):
            return apply(args["input"] * 0.5, args["timestep"], **args["c"])

    model = comfy.run(start[0]).clone()
    model.set_model_unet_function_wrapper(SmearTokens.smear)
    SmearTokens.smear.__qualname__ = "SmearTokens.smear"
    loader, text, latent = start
    refused(comfy, graphs.custom(comfy, loader, latent, text, model=comfy.give(model)), "remove 'SmearTokens'")


def test_a_wrapped_sampler_is_named(comfy, start):
    """A wrapper hides the stock sampler; its own name is told, and the other node in the way."""
    from comfy.k_diffusion.sampling import sample_euler
    from comfy.samplers import KSAMPLER

    def sample_of_another_pack(*args, **kwargs):
        return sample_euler(*args, **kwargs)

    loader, text, latent = start
    run = graphs.custom(comfy, loader, latent, text, sampler=comfy.give(KSAMPLER(sample_of_another_pack)))
    refused(comfy, run, "'sample_of_another_pack' cannot run an aMUSEd model")


def test_stock_training_points_to_our_node(comfy, start):
    """And the MODEL draws as before afterwards."""
    loader, text, latent = start
    plain = comfy.run(graphs.sample(comfy, loader, latent, text))
    pictures = comfy.node("RebatchLatents", latents=comfy.give(graphs.latent(2)), batch_size=1)
    settings = {"batch_size": 1, "steps": 2, "grad_accumulation_steps": 1, "learning_rate": 0.001, "rank": 2, "seed": 0}
    settings |= {"optimizer": "AdamW", "loss_function": "MSE", "training_dtype": "fp32", "lora_dtype": "fp32"}
    settings |= {"algorithm": "LoRA", "gradient_checkpointing": True, "existing_lora": "[None]"}
    newer = {"bucket_mode": False, "bypass_mode": False, "quantized_backward": False, "checkpoint_depth": 1}
    node = comfy.node(
        "TrainLoraNode", model=loader, latents=pictures, positive=text, **settings, **newer, offloading=False
    )
    refused(comfy, node, "'Train aMUSEd LoRA'")
    assert same(comfy.run(graphs.sample(comfy, loader, latent, text)), plain)


def leaves(value):
    """Everything in a nest of lists and dicts."""
    if isinstance(value, (list, tuple, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def test_conditioning_holds_tensors_and_numbers_only(comfy, start):
    """Stock nodes walk through it, and a text is a list of texts for ever."""
    loader, text, _ = start
    stock = comfy.node("CLIPTextEncode", clip=(loader, 1), text="a red apple")
    micro = {"width": 64, "height": 0, "crop_top": 1, "crop_left": 0, "aesthetic_score": 5.5}
    told = comfy.node("AmusedMicroConditioning", conditioning=stock, **micro)
    for conditioning in comfy.run(text, stock, told):
        assert {type(leaf) for leaf in leaves(conditioning)} <= {torch.Tensor, int, float, bool, type(None)}
