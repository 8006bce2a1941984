"""Empty latents of stock nodes: those of a grid of cells are taken, those of other kinds of model refused."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs
from tests.comfy.graphs import refused, same

IMAGE = {"width": 64, "height": 64, "batch_size": 1}
VIDEO = {"length": 9, **IMAGE}
FOREIGN = {
    "EmptyChromaRadianceLatentImage": (IMAGE, "3 channels"),
    "EmptyHiDreamO1LatentImage": (IMAGE, "3 channels"),
    "EmptyFlux2LatentImage": (IMAGE, "128 channels"),
    "EmptyHunyuanImageLatent": (IMAGE, "64 channels"),
    "EmptyAceStepLatentAudio": ({"seconds": 2.0, "batch_size": 1}, "8 channels"),
    "EmptyAceStep1.5LatentAudio": ({"seconds": 2.0, "batch_size": 1}, "another kind of model"),
    "EmptyLatentAudio": ({"seconds": 2.0, "batch_size": 1}, "another kind of model"),
    "EmptyLatentHunyuan3Dv2": ({"resolution": 64, "batch_size": 1}, "another kind of model"),
    "EmptyTrellis2LatentStructure": ({"resolution": 16, "batch_size": 1}, "another kind of model"),
    "EmptyQwenImageLayeredLatentImage": ({"layers": 3, **IMAGE}, "another kind of model"),
    "EmptyMiniMaxH3LatentAV": (VIDEO, "another kind of model"),
    **dict.fromkeys(
        [
            "EmptyHunyuanLatentVideo",
            "EmptyHunyuanVideo15Latent",
            "EmptyCosmosLatentVideo",
            "EmptyMochiLatentVideo",
            "EmptyLTXVLatentVideo",
            "EmptyARVideoLatent",
        ],
        (VIDEO, "another kind of model"),
    ),
}


def users(comfy, loader, latent):
    """Everything that takes a LATENT."""
    decode = {"samples": latent, "vae": (loader, 2)}
    tiles = {"tile_size": 64, "overlap": 0, "temporal_size": 64, "temporal_overlap": 8}
    picture = comfy.give(graphs.picture())
    text = graphs.prompts(comfy, loader)
    guider = comfy.node("BasicGuider", model=loader, conditioning=text)
    own = {"sampler": graphs.sampler(comfy), "noise": comfy.node("RandomNoise", noise_seed=1), "guider": guider}
    sigmas = comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=2, denoise=1.0)
    return {
        "AmusedSampler": graphs.sample(comfy, loader, latent, text),
        "KSampler": graphs.ksampler(comfy, loader, latent, text),
        "SamplerCustom": graphs.custom(comfy, loader, latent, text),
        "SamplerCustomAdvanced": comfy.node("SamplerCustomAdvanced", sigmas=sigmas, latent_image=latent, **own),
        "AmusedVQDecode": comfy.node("AmusedVQDecode", **decode, tile_size=0),
        "VAEDecode": comfy.node("VAEDecode", **decode),
        "VAEDecodeTiled": comfy.node("VAEDecodeTiled", **decode, **tiles),
        "AmusedTokenGrid": comfy.node("AmusedTokenGrid", samples=latent, image=picture, ids=False),
    }


@pytest.mark.parametrize("name", FOREIGN)
def test_empty_latents_of_other_kinds_of_model(comfy, start, name):
    if name not in comfy.nodes.NODE_CLASS_MAPPINGS:
        pytest.skip(f"this ComfyUI has no {name}")
    settings, words = FOREIGN[name]
    for node in users(comfy, start[0], comfy.node(name, **settings)).values():
        refused(comfy, node, words, "'aMUSEd empty latent'")


@pytest.mark.parametrize("name", ["EmptyLatentImage", "EmptySD3LatentImage"])
def test_stock_empty_latents_are_masked_all_over(comfy, start, name):
    """8 by 8 cells for every taker: the same tokens as of our own node, and grey pictures."""
    loader, text, own = start
    latent = comfy.run(comfy.node(name, **IMAGE))
    nodes = users(comfy, loader, comfy.give({"samples": latent["samples"]}))
    for sampler in ("AmusedSampler", "KSampler", "SamplerCustom", "SamplerCustomAdvanced"):
        assert comfy.run(nodes[sampler])["samples"].shape == (1, 1, 8, 8)
    assert same(comfy.run(nodes["AmusedSampler"]), comfy.run(graphs.sample(comfy, loader, own, text)))
    refused(comfy, nodes["AmusedTokenGrid"], "belongs to another model")
    for decoder in ("AmusedVQDecode", "VAEDecode"):
        assert torch.equal(comfy.run(nodes[decoder]), torch.full((1, 32, 32, 3), 0.5))


def test_a_number_of_channels_that_no_stock_node_has(comfy, start):
    """The wrapper of a run checks too: no node between has to."""
    loader, text, _ = start
    latent = comfy.give({"samples": torch.zeros(2, 5, 8, 8)})
    refused(comfy, graphs.custom(comfy, loader, latent, text), "5 channels")
