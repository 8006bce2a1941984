"""Graphs give the same tokens as diffusers' pipelines, and as `generate` without ComfyUI."""

from __future__ import annotations

import diffusers
import pytest
import torch

from amused_core import load_model
from tests.comfy import graphs
from tests.tiny import MASK_ID

SEED = 3
SHAPES = ("tiny", "tiny512")
# Everything between the logits and the tokens, away from its default.
RULED = {"order": "hybrid", "revision": 0.3, "sampling_temperature_end": 1.2, "cfg_rescale": 0.6}


@pytest.fixture(scope="module", params=SHAPES)
def shape(request, comfy):
    """The model's name, diffusers' text-to-image pipeline, and our headless model."""
    folder = comfy.models / "amused" / request.param
    pipe = diffusers.AmusedPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return request.param, pipe, load_model(folder, device="cpu")


def call(pipe, **arguments):
    """Tokens of a pipeline's run."""
    generator = torch.Generator().manual_seed(SEED)
    return pipe(**arguments, generator=generator, output_type="latent").images


@pytest.mark.parametrize(("steps", "cfg", "temperature"), [(12, 10.0, (2, 0)), (5, 3.0, (4.5, 1)), (12, 1.0, (0, 0))])
@pytest.mark.parametrize("batch", [1, 2])
def test_text_to_image(comfy, shape, steps, cfg, temperature, batch):
    name, pipe, _ = shape
    want = call(
        pipe,
        prompt="a red apple",
        negative_prompt="blue",
        height=32,
        width=40,
        num_inference_steps=steps,
        guidance_scale=cfg,
        temperature=temperature,
        num_images_per_prompt=batch,
    )
    loader = graphs.load(comfy, name)
    text = graphs.prompts(comfy, loader, "a red apple", "blue")
    settings = {"temperature_start": temperature[0], "temperature_end": temperature[1], "seeding": "diffusers"}
    start = graphs.empty(comfy, loader, 40, 32, batch)
    got = comfy.run(graphs.sample(comfy, loader, start, text, steps=steps, cfg=cfg, **settings))
    assert torch.equal(graphs.tokens(got), want)


@pytest.mark.parametrize(("steps", "strength"), [(12, 0.5), (12, 0.58), (5, 0.9), (12, 0.1)])
def test_image_to_image(comfy, shape, steps, strength):
    name, pipe, _ = shape
    pipe = diffusers.AmusedImg2ImgPipeline(**pipe.components)
    pipe.set_progress_bar_config(disable=True)
    picture = graphs.picture()
    want = call(
        pipe,
        prompt="a red apple",
        image=picture.movedim(-1, 1),
        num_inference_steps=steps,
        guidance_scale=3.0,
        strength=strength,
    )
    loader = graphs.load(comfy, name)
    start = comfy.node("VAEEncode", pixels=comfy.give(picture), vae=(loader, 2))
    got = comfy.run(graphs.sample(comfy, loader, start, steps=steps, denoise=strength, seeding="diffusers"))
    assert torch.equal(graphs.tokens(got), want)


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("batch", [1, 2])
def test_inpaint(comfy, shape, strength, batch):
    name, pipe, _ = shape
    # diffusers' inpaint pipeline changes its scheduler, so it gets one of its own.
    scheduler = diffusers.AmusedScheduler(mask_token_id=MASK_ID)
    pipe = diffusers.AmusedInpaintPipeline(**{**pipe.components, "scheduler": scheduler})
    pipe.set_progress_bar_config(disable=True)
    picture, mask = graphs.picture(batch), graphs.block_mask()
    want = call(
        pipe,
        prompt=["a red apple"] * batch,
        image=picture.movedim(-1, 1),
        mask_image=mask[:, None].expand(batch, -1, -1, -1),
        num_inference_steps=12,
        guidance_scale=3.0,
        strength=strength,
    )
    loader = graphs.load(comfy, name)
    masked = comfy.node(
        "AmusedInpaintMask",
        pixels=comfy.give(picture),
        mask=comfy.give(mask),
        vae=(loader, 2),
        grow=0,
        invert=False,
        sides="crop",
    )
    encoded = comfy.node("VAEEncode", pixels=comfy.give(picture), vae=(loader, 2))
    stock = comfy.node("SetLatentNoiseMask", samples=encoded, mask=comfy.give(mask))
    settings = {"steps": 12, "denoise": strength, "seeding": "diffusers"}
    for start in (masked, stock):
        got = comfy.run(graphs.sample(comfy, loader, start, **settings))
        assert torch.equal(graphs.tokens(got), want)


def test_custom_sampling(comfy, shape):
    """The same stream through SamplerCustom and SamplerCustomAdvanced."""
    name, pipe, _ = shape
    want = call(pipe, prompt="a red apple", height=32, width=32, num_inference_steps=12, guidance_scale=3.0)
    loader = graphs.load(comfy, name)
    text = graphs.prompts(comfy, loader)
    start = graphs.empty(comfy, loader)
    plain = graphs.custom(comfy, loader, start, text, steps=12, sampler=graphs.sampler(comfy, "diffusers"))
    advanced = comfy.node(
        "SamplerCustomAdvanced",
        noise=comfy.node("RandomNoise", noise_seed=SEED),
        guider=comfy.node("CFGGuider", model=loader, positive=text, negative=(text, 1), cfg=3.0),
        sampler=graphs.sampler(comfy, "diffusers"),
        sigmas=comfy.node("AmusedScheduler", model=loader, schedule="cosine", steps=12, denoise=1.0),
        latent_image=start,
    )
    for got in comfy.run(plain, advanced):
        assert torch.equal(graphs.tokens(got), want)


@pytest.mark.parametrize("task", ["text", "image", "mask"])
def test_same_as_generate(comfy, shape, task):
    """Per-image seeding: the node and the command line draw the same tokens from the same seed."""
    name, _, model = shape
    picture, mask = graphs.picture(2), graphs.block_mask().expand(2, -1, -1)
    loader = graphs.load(comfy, name)
    start = comfy.node("VAEEncode", pixels=comfy.give(picture), vae=(loader, 2))
    settings = {"text": {}, "image": {"image": picture}, "mask": {"image": picture, "mask": mask}}[task]
    strength = {"text": None, "image": 0.5, "mask": 0.7}[task]
    if task == "text":
        start = graphs.empty(comfy, loader, batch=2)
    if task == "mask":
        start = comfy.node("SetLatentNoiseMask", samples=start, mask=comfy.give(mask))
    # The composite is a node of its own.
    more = {"keep_original": False} if task == "mask" else {}
    want = model.generate("a red apple", **settings, strength=strength, steps=6, cfg=3.0, seed=11, batch_size=2, **more)
    got, decoded = comfy.run(
        run := graphs.sample(comfy, loader, start, seed=11, denoise=strength or 1.0),
        comfy.node("AmusedVQDecode", samples=run, vae=(loader, 2), tile_size=0),
    )
    assert torch.equal(graphs.tokens(got), want.tokens)
    assert torch.equal(decoded, want.images)


@pytest.mark.parametrize("more", [{}, {"cfg_schedule": "ramp"}, RULED], ids=["constant", "ramp", "rules"])
@pytest.mark.parametrize("task", ["text", "image"])
def test_options_same_as_generate(comfy, shape, more, task):
    """What is drawn and how guidance rises: as 'amused generate' does it, also from the middle of the schedule."""
    name, _, model = shape
    picture = graphs.picture(2)
    loader = graphs.load(comfy, name)
    start = graphs.empty(comfy, loader, batch=2)
    given, denoise = {}, 1.0
    if task == "image":
        start = comfy.node("VAEEncode", pixels=comfy.give(picture), vae=(loader, 2))
        given, denoise = {"image": picture, "strength": 0.5}, 0.5
    options = {"sampling_temperature": 0.8, "top_k": 20, "top_p": 0.9, **more}
    want = model.generate("a red apple", **given, steps=6, cfg=3.0, seed=11, batch_size=2, **options).tokens
    node = graphs.sample(comfy, loader, start, seed=11, denoise=denoise, **options)
    assert torch.equal(graphs.tokens(comfy.run(node)), want)


@pytest.mark.parametrize("more", [{}, {"cfg_schedule": "ramp"}], ids=["constant", "ramp"])
@pytest.mark.parametrize("node", ["AmusedSampler", "AmusedTrace"])
def test_a_cfg_below_1_is_no_guidance(comfy, shape, node, more):
    """As for `generate`; ComfyUI alone would guide towards the negative prompt."""
    name, _, model = shape
    loader = graphs.load(comfy, name)
    run = graphs.sample(
        comfy,
        loader,
        graphs.empty(comfy, loader),
        graphs.prompts(comfy, loader, "a red apple", "blue"),
        cfg=0.5,
        **more,
    )
    settings = {"steps": 6, "cfg": 0.5, "seed": SEED, "width": 32, "height": 32, **more}
    want = model.generate("a red apple", negative_prompt="blue", **settings).tokens
    assert torch.equal(graphs.tokens(comfy.run(comfy.node(node, **run.inputs))), want)


def test_options_of_the_sampler_select(comfy, shape):
    """Custom sampling draws from the same codes as the node that does it all."""
    name, _, model = shape
    loader = graphs.load(comfy, name)
    options = {"sampling_temperature": 0.8, "top_k": 20, "top_p": 0.9, **RULED}
    own = {"temperature_start": 2.0, "temperature_end": 0.0, "seeding": "diffusers"}
    sampler = comfy.node("AmusedSamplerSelect", **own, **options)
    got = comfy.run(graphs.custom(comfy, loader, graphs.empty(comfy, loader), sampler=sampler))
    want = model.generate(
        "a red apple", steps=6, cfg=3.0, seed=SEED, seeding="diffusers", width=32, height=32, **options
    )
    assert torch.equal(graphs.tokens(got), want.tokens)


def test_text_encoder(comfy, shape):
    """Penultimate hidden states and projected pooled embedding of ComfyUI's CLIP are transformers'."""
    name, pipe, _ = shape
    ids = pipe.tokenizer("a red, red apple", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        want = pipe.text_encoder(ids, output_hidden_states=True)
    loader = graphs.load(comfy, name)
    got = comfy.run(comfy.node("CLIPTextEncode", clip=(loader, 1), text="a red, red apple"))
    torch.testing.assert_close(got[0][0], want.hidden_states[-2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[0][1]["pooled_output"], want.text_embeds, atol=1e-5, rtol=1e-5)


def test_decoder(comfy, shape):
    """Pictures of the stock VAE nodes are diffusers', but for the rounding of a batch of 2 beside one at a time."""
    name, pipe, _ = shape
    latent = graphs.latent(2)
    with torch.no_grad():
        want = pipe.vqvae.decode(graphs.tokens(latent), force_not_quantize=True, shape=(2, 8, 8, 8)).sample.clip(0, 1)
    loader = graphs.load(comfy, name)
    got = comfy.run(comfy.node("VAEDecode", samples=comfy.give(latent), vae=(loader, 2)))
    torch.testing.assert_close(got, want.movedim(1, -1), atol=1e-5, rtol=0)
