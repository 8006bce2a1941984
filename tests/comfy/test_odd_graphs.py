"""Graphs that nobody means to build: each gives one sentence of ours, or a result."""

from __future__ import annotations

import math

import pytest
import torch

from tests.comfy import graphs
from tests.comfy.harness import GraphError

END = {"cfg_interval_end": 1.0}
TILED = {"temporal_size": 64, "temporal_overlap": 8}


def refused(comfy, node, *parts):
    """The graph fails with one sentence that holds every part."""
    with pytest.raises(GraphError) as caught:
        comfy.run(node)
    text = str(caught.value).strip()
    assert caught.value.kind.endswith("AmusedError"), caught.value.kind
    assert "\n" not in text and text.endswith("."), text
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    "prefix", ["a" * 300, "a\0b", "a\ud800", "a/" + "b" * 250], ids=["long", "NUL", "half", "part"]
)
@pytest.mark.parametrize("node", ["AmusedSaveTokens", "AmusedSaveModel"])
def test_prefixes_that_no_file_can_have(comfy, node, prefix):
    loader = graphs.load(comfy)
    if node == "AmusedSaveTokens":
        inputs = {"samples": comfy.give(graphs.latent())}
    else:
        inputs = {"model": loader, "clip": (loader, 1), "vae": (loader, 2), "layout": "one file", "dtype": "auto"}
    with pytest.raises(
        GraphError, match=r"^filename_prefix is '.{2,80}; allowed are names of at most 200 bytes"
    ) as error:
        comfy.finish(comfy.node(node, filename_prefix=prefix, **inputs))
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("size", [(3, 64), (64, 3), (1, 1)])
@pytest.mark.parametrize("node", ["VAEEncode", "VAEEncodeTiled"])
def test_pictures_of_less_than_a_cell(comfy, node, size):
    image = comfy.node("EmptyImage", width=size[0], height=size[1], batch_size=1, color=5)
    more = {"tile_size": 64, "overlap": 32, **TILED} if node == "VAEEncodeTiled" else {}
    encoded = comfy.node(node, pixels=image, vae=(graphs.load(comfy), 2), **more)
    refused(comfy, encoded, f"{size[0]}x{size[1]} pixels, less than one cell of 4")


def test_tiles_that_overlap_wholly(comfy):
    image = comfy.node("EmptyImage", width=128, height=128, batch_size=1, color=5)
    encoded = comfy.node("VAEEncodeTiled", pixels=image, vae=(graphs.load(comfy), 2), tile_size=64, overlap=64, **TILED)
    refused(comfy, encoded, "64x64 pixels and overlap by 64", "smaller")


@pytest.mark.parametrize("shape", [(1, 0, 5), (0, 32, 32), (5,)], ids=str)
def test_empty_masks(comfy, shape):
    loader, mask = graphs.load(comfy), comfy.give(torch.zeros(shape))
    more = {"vae": (loader, 2), "grow": 0, "invert": False, "sides": "crop"}
    refused(comfy, comfy.node("AmusedInpaintMask", pixels=comfy.give(graphs.picture()), mask=mask, **more), str(shape))
    latent = comfy.give({**graphs.latent(), "noise_mask": torch.zeros(shape)})
    refused(comfy, graphs.sample(comfy, loader, latent), f"The MASK has the shape {shape}", "not empty")


@pytest.mark.parametrize(("step", "part"), [(0, 0), (6, 1)], ids=["before the first", "after the last"])
def test_no_step_at_all(comfy, step, part):
    """As in stock samplers, the latent is as noisy as the schedule says, and that is all."""
    loader = graphs.load(comfy)
    sigmas = comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=6, denoise=1.0)
    split = (comfy.node("SplitSigmas", sigmas=sigmas, step=step), part)
    latent = graphs.latent()
    result = comfy.run(graphs.custom(comfy, loader, comfy.give(latent), sigmas=split))["samples"]
    assert torch.equal(result, torch.zeros_like(result) if part == 0 else latent["samples"])


@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (0.0, 1.0)])
def test_areas_outside_the_picture(comfy, x, y):
    loader = graphs.load(comfy)
    text = graphs.prompts(comfy, loader)
    area = {"width": 0.5, "height": 0.5, "strength": 1.0, "x": x, "y": y}
    outside = comfy.node("ConditioningSetAreaPercentage", conditioning=text, **area)
    both = comfy.node("ConditioningCombine", conditioning_1=text, conditioning_2=outside)
    refused(comfy, graphs.sample(comfy, loader, graphs.empty(comfy, loader), text, positive=both), "outside the image")


def test_one_of_two_optional_widgets(comfy):
    """As a graph in API format may have it: the other has its default."""
    loader = graphs.load(comfy)
    run = {"cfg_schedule": "interval", "cfg_interval_start": 0.25}
    one, both = (graphs.sample(comfy, loader, graphs.empty(comfy, loader), **run, **more) for more in ({}, END))
    assert torch.equal(*(latent["samples"] for latent in comfy.run(one, both)))


@pytest.mark.parametrize("more", [{"width": -8}, {"height": 7}, {"batch_size": 0}, {"batch_size": 10**6}], ids=str)
def test_linked_sizes(comfy, more):
    """They pass by the widgets' limits."""
    loader, (name, value) = graphs.load(comfy), next(iter(more.items()))
    size = {"width": 32, "height": 32, "batch_size": 1, name: comfy.node("PrimitiveInt", value=value)}
    refused(comfy, comfy.node("AmusedEmptyLatent", model=loader, **size), f"{name} is {value}; allowed are")


def test_linked_feather(comfy):
    image, wide = comfy.give(graphs.picture()), comfy.node("PrimitiveInt", value=10**6)
    parts = {"original": image, "generated": image, "mask": comfy.give(torch.ones(1, 32, 32)), "feather": wide}
    refused(comfy, comfy.node("AmusedInpaintComposite", **parts), "feather is 1000000; allowed are")


def test_weights_that_give_no_numbers(comfy):
    """Stock nodes that look at the prediction, such as TCFG, would fail on it with errors of their own."""
    loader = graphs.load(comfy)
    model = comfy.run(loader)
    key = "diffusion_model.mlm_layer.conv1.weight"
    spoilt = model.clone()
    spoilt.add_patches({key: (torch.full_like(model.model.state_dict()[key], torch.inf),)}, 1.0)
    guided = comfy.node("TCFG", model=comfy.give(spoilt))
    run = graphs.sample(comfy, guided, graphs.empty(comfy, loader), graphs.prompts(comfy, loader))
    refused(comfy, run, "NaN or infinite logits")


def test_guidance_that_gives_no_numbers(comfy):
    """'PerpNegGuider' divides by the difference of the positive and the empty prompt, and its weights are in order."""
    loader = graphs.load(comfy)
    text = graphs.prompts(comfy, loader, "")
    prompts = {"positive": text, "negative": text, "empty_conditioning": (text, 1)}
    run = comfy.node(
        "SamplerCustomAdvanced",
        noise=comfy.node("RandomNoise", noise_seed=3),
        guider=comfy.node("PerpNegGuider", model=loader, **prompts, cfg=3.0, neg_scale=1.0),
        sampler=graphs.sampler(comfy),
        sigmas=comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=4, denoise=1.0),
        latent_image=graphs.empty(comfy, loader),
    )
    refused(comfy, run, "The guidance of 'Guider_PerpNeg'", "a positive prompt that differs from the empty one")


def test_a_node_that_spoils_guidance_is_named(comfy):
    loader = graphs.load(comfy)
    changed = comfy.node("RescaleCFG", model=loader, multiplier=comfy.give(math.inf))
    run = graphs.sample(comfy, changed, graphs.empty(comfy, loader), graphs.prompts(comfy, loader))
    refused(comfy, run, "The guidance of 'CFGGuider', 'RescaleCFG'")


def test_tcfg(comfy):
    loader = graphs.load(comfy)
    guided = comfy.node("TCFG", model=loader)
    run = graphs.sample(comfy, guided, graphs.empty(comfy, loader), graphs.prompts(comfy, loader))
    assert comfy.run(run)["samples"].min() >= 1
