"""Every wrong connection gets one clear sentence, and the next run works."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs
from tests.comfy.harness import GraphError


def fails(comfy, node, *words):
    """The graph fails with a sentence of ours that holds `words`; a good graph runs after it."""
    with pytest.raises(GraphError) as caught:
        comfy.run(node)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert caught.value.kind.endswith(("AmusedError", "CheckpointError")), caught.value.kind
    loader = graphs.load(comfy)
    assert comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader), steps=1))["samples"].min() >= 1


@pytest.fixture(scope="module")
def other_model(comfy):
    """A MODEL that is not aMUSEd: 4 latent channels, predicts nothing."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models_base

    class Nothing(torch.nn.Module):
        dtype = torch.float32

        def forward(self, x, *args, **kwargs):
            return torch.zeros_like(x)

    config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
    model = comfy.model_base.BaseModel(config)
    model.diffusion_model = Nothing()
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def sd_latent(comfy):
    return comfy.give({"samples": torch.randn(1, 4, 8, 8)})


@pytest.mark.parametrize("build", [graphs.sample, graphs.custom, graphs.ksampler])
def test_latent_of_another_model(comfy, build):
    fails(comfy, build(comfy, graphs.load(comfy), sd_latent(comfy)), "4 channels", "another model")


@pytest.mark.parametrize("node", ["VAEDecode", "VAEDecodeTiled", "AmusedVQDecode"])
def test_latent_of_another_model_in_the_decoder(comfy, node):
    tiles = {"VAEDecode": {}, "AmusedVQDecode": {"tile_size": 0}}
    tiled = {"tile_size": 64, "overlap": 0, "temporal_size": 64, "temporal_overlap": 8}
    decode = comfy.node(node, samples=sd_latent(comfy), vae=(graphs.load(comfy), 2), **tiles.get(node, tiled))
    fails(comfy, decode, "4 channels", "another model")


def test_blended_tokens(comfy):
    blend = comfy.node(
        "LatentBlend",
        samples1=comfy.give(graphs.latent()),
        samples2=comfy.give(graphs.latent(seed=6)),
        blend_factor=0.3,
    )
    fails(comfy, graphs.sample(comfy, graphs.load(comfy), blend), "not a token id", "nearest-exact")


def test_tokens_of_a_larger_codebook(comfy):
    latent = comfy.give(graphs.latent(codes=500))
    fails(comfy, graphs.sample(comfy, graphs.load(comfy), latent), "0 (masked) to 64")


def test_half_precision_tokens(comfy):
    """bf16 holds whole numbers up to 256 only."""
    check = comfy.module("nodes.host.sample.checks").check_codes
    with pytest.raises(ValueError, match="cannot hold 8192 token ids"):
        check(torch.ones(1, 1, 2, 2, dtype=torch.bfloat16), 8192)
    assert check(torch.ones(1, 1, 2, 2, dtype=torch.float16), 64).dtype is torch.float32


def test_nan_latent(comfy):
    fails(comfy, graphs.sample(comfy, graphs.load(comfy), comfy.give({"samples": torch.full((1, 1, 8, 8), torch.nan)})))


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "uni_pc", "ddim", "dpm_fast", "lcm", "ddpm"])
def test_stock_sampler(comfy, name):
    loader = graphs.load(comfy)
    run = graphs.ksampler(comfy, loader, graphs.empty(comfy, loader), sampler_name=name, scheduler="simple")
    fails(comfy, run, "cannot run an aMUSEd model", "'amused'")


def test_sampler_of_another_pack(comfy):
    """A wrapper hides the stock sampler's name; what it feeds the model still gives it away."""
    from comfy.k_diffusion.sampling import sample_euler
    from comfy.samplers import KSAMPLER

    def wrapped(*args, **kwargs):
        return sample_euler(*args, **kwargs)

    loader = graphs.load(comfy)
    run = graphs.custom(comfy, loader, graphs.empty(comfy, loader), sampler=comfy.give(KSAMPLER(wrapped)))
    fails(comfy, run, "cannot run an aMUSEd model")


def test_our_sampler_on_another_model(comfy, other_model):
    loader, other = graphs.load(comfy), comfy.give(other_model)
    latent = comfy.give({"samples": torch.zeros(1, 4, 8, 8)})
    text = comfy.give([[torch.zeros(1, 7, 8), {"pooled_output": torch.zeros(1, 8)}]])
    wires = {"model": other, "positive": text, "negative": text, "latent_image": latent}
    fails(comfy, graphs.ksampler(comfy, loader, latent, **wires, scheduler="simple"), "aMUSEd models only", "BaseModel")
    fails(comfy, graphs.ksampler(comfy, loader, latent, **wires), "scheduler 'amused'")
    fails(comfy, graphs.custom(comfy, loader, latent, **wires), "aMUSEd models only")
    fails(comfy, graphs.sample(comfy, loader, latent, model=other, positive=text, negative=text), "not aMUSEd")


@pytest.mark.parametrize("node", ["AmusedEmptyLatent", "AmusedScheduler"])
def test_another_model_in_our_nodes(comfy, other_model, node):
    inputs = {
        "AmusedEmptyLatent": {"width": 32, "height": 32, "batch_size": 1},
        "AmusedScheduler": {"schedule": "auto", "steps": 3, "denoise": 1.0},
    }
    fails(comfy, comfy.node(node, model=comfy.give(other_model), **inputs[node]), "not aMUSEd")


def test_another_vae_in_our_nodes(comfy):
    vae, picture = comfy.give(object()), comfy.give(graphs.picture())
    encode = comfy.node("AmusedVQEncode", pixels=picture, vae=vae, sides="crop", tile_size=0)
    fails(comfy, encode, "VAE of 'Load aMUSEd'")
    decode = comfy.node("AmusedVQDecode", samples=comfy.give(graphs.latent()), vae=vae, tile_size=0)
    fails(comfy, decode, "VAE of 'Load aMUSEd'")


def test_another_clip_in_our_node(comfy):
    text = comfy.node("AmusedTextEncode", clip=comfy.give(object()), positive="", negative="", **micro())
    fails(comfy, text, "CLIP of 'Load aMUSEd'")


def micro():
    return {"width": 0, "height": 0, "crop_top": 0, "crop_left": 0, "aesthetic_score": 6.0}


@pytest.mark.parametrize(
    ("text", "pooled", "words"),
    [
        (torch.zeros(1, 7, 32), None, "no pooled text ('pooled_output')"),
        (torch.zeros(1, 7, 768), torch.zeros(1, 768), "768 wide"),
        (torch.zeros(1, 7, 32), torch.zeros(1, 1280), "pooled 1280"),
    ],
)
def test_conditioning_of_another_text_encoder(comfy, text, pooled, words):
    loader = graphs.load(comfy)
    cond = comfy.give([[text, {} if pooled is None else {"pooled_output": pooled}]])
    run = graphs.sample(comfy, loader, graphs.empty(comfy, loader), positive=cond, negative=cond)
    fails(comfy, run, words, "Load aMUSEd")


def test_conditioning_of_a_text_encoder_of_the_same_width(comfy, caplog):
    """Nothing can be refused here, so the log says it; our own CLIP is not complained about."""
    loader = graphs.load(comfy)
    cond = comfy.give([[torch.randn(1, 24, 32), {"pooled_output": torch.randn(1, 32)}]])
    comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader), positive=cond, steps=1))
    assert "not encoded by the CLIP of 'Load aMUSEd'" in caplog.text
    caplog.clear()
    comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader), steps=1, seed=4))
    assert "not encoded by the CLIP" not in caplog.text


def test_replaced_model_sampling(comfy):
    loader = graphs.load(comfy)
    patched = comfy.node("ModelSamplingDiscrete", model=loader, sampling="eps", zsnr=False)
    sigmas = comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=3, denoise=1.0)
    run = graphs.custom(comfy, loader, graphs.empty(comfy, loader), model=patched, sigmas=sigmas)
    fails(comfy, run, "ModelSampling")


def test_sigmas_of_another_model(comfy):
    loader = graphs.load(comfy)
    sigmas = comfy.node("KarrasScheduler", steps=4, sigma_max=14.6, sigma_min=0.03, rho=7.0)
    fails(comfy, graphs.custom(comfy, loader, graphs.empty(comfy, loader), sigmas=sigmas), "mask ratios", "14.6")


@pytest.mark.parametrize("size", [30, 33, 2])
def test_size_that_cells_do_not_fill(comfy, size):
    fails(comfy, graphs.empty(comfy, graphs.load(comfy), width=size, height=32), f"width is {size}", "multiples of 4")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.full((1, 32, 32, 3), torch.nan), "NaN"),
        (torch.rand(1, 32, 32, 1), "(1, 32, 32, 1)"),
        (torch.rand(0, 32, 32, 3), "not empty"),
    ],
)
def test_bad_pictures(comfy, image, words):
    encode = comfy.node(
        "AmusedVQEncode", pixels=comfy.give(image), vae=(graphs.load(comfy), 2), sides="crop", tile_size=0
    )
    fails(comfy, encode, words)


def test_missing_model(comfy):
    """Refused before anything runs."""
    with pytest.raises(GraphError, match=r"'nowhere' is not there; put it into '.*amused'.*tiny512") as caught:
        comfy.run(graphs.load(comfy, "nowhere"))
    assert caught.value.kind == "invalid"


@pytest.mark.parametrize("settings", [{"schedule": "karras"}, {"seeding": "none"}], ids=["schedule", "seeding"])
def test_unknown_choice(comfy, settings):
    """0.3.75 does not check the choices of V3 nodes; newer versions refuse them before the run."""
    loader = graphs.load(comfy)
    with pytest.raises(GraphError, match=next(iter(settings.values()))):
        comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader), **settings))


def test_more_likeliest_codes_than_there_are(comfy):
    loader = graphs.load(comfy)
    fails(comfy, graphs.sample(comfy, loader, graphs.empty(comfy, loader), top_k=65), "top_k is 65", "0 to 64")
