"""Stock latent, inpainting and saving nodes on token ids."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs


def latents(comfy, name):
    """LATENT nodes that keep token ids whole."""
    one, two = comfy.give(graphs.latent()), comfy.give(graphs.latent(seed=6))
    small, large = (comfy.give(graphs.latent(height=side, width=side)) for side in (4, 16))
    composed = {"samples_to": one, "samples_from": small}
    resized = {"samples": one, "upscale_method": "nearest-exact"}
    return {
        "repeat": comfy.node("RepeatLatentBatch", samples=one, amount=2),
        "batch": comfy.node("LatentBatch", samples1=one, samples2=two),
        "composite": comfy.node("LatentComposite", **composed, x=16, y=16, feather=0),
        "composite masked": comfy.node(
            "LatentCompositeMasked", destination=one, source=two, x=0, y=0, resize_source=False
        ),
        "upscale": comfy.node("LatentUpscale", **resized, width=128, height=128, crop="disabled"),
        "upscale by": comfy.node("LatentUpscaleBy", **resized, scale_by=1.5),
        "flip": comfy.node("LatentFlip", samples=one, flip_method="y-axis: horizontally"),
        "rotate": comfy.node("LatentRotate", samples=one, rotation="90 degrees"),
        "crop": comfy.node("LatentCrop", samples=large, width=64, height=64, x=8, y=0),
    }[name]


EDITS = ["repeat", "batch", "composite", "composite masked", "upscale", "upscale by", "flip", "rotate", "crop"]


@pytest.mark.parametrize("name", EDITS)
def test_latent_edits(comfy, start, name):
    loader, text, _ = start
    edited = latents(comfy, name)
    run = graphs.sample(comfy, loader, edited, text, denoise=0.5, steps=4)
    latent, image = comfy.run(run, comfy.node("VAEDecode", samples=run, vae=(loader, 2)))
    assert latent["samples"].min() >= 1 and image.ndim == 4


def test_save_and_load_latent(comfy, start, tmp_path):
    from safetensors.torch import load_file

    loader, text, latent = start
    run = graphs.sample(comfy, loader, latent, text)
    save = comfy.node("SaveLatent", samples=run, filename_prefix="kept")
    comfy.finish(save)
    file = next((comfy.models / "output").rglob("kept*.latent"))
    assert torch.equal(load_file(file)["latent_tensor"], comfy.run(run)["samples"])


@pytest.mark.parametrize("node", ["VAEEncodeForInpaint", "InpaintModelConditioning"])
def test_stock_inpainting(comfy, start, node):
    loader, text, _ = start
    image, mask = graphs.picture(), graphs.block_mask()
    wires = {"pixels": comfy.give(image), "mask": comfy.give(mask), "vae": (loader, 2)}
    if node == "VAEEncodeForInpaint":
        latent = comfy.node(node, **wires, grow_mask_by=0)
        run = graphs.sample(comfy, loader, latent, text)
    else:
        node = comfy.node(node, **wires, positive=text, negative=(text, 1), noise_mask=True)
        latent = (node, 2)
        run = graphs.sample(comfy, loader, latent, positive=node, negative=(node, 1), text=text)
    encoded, got = comfy.run(latent, run)
    cells = mask[0, ::4, ::4] > 0
    assert torch.equal(got["samples"][0, 0][~cells], encoded["samples"][0, 0][~cells])
    assert not torch.equal(got["samples"][0, 0][cells], encoded["samples"][0, 0][cells])


def redrawn(comfy, node, start, text, mask):
    """The cells that some seed draws anew under a mask [1,32,32]; `node` builds the sampler."""
    loader, latent = start[0], graphs.latent()
    wires = {"samples": comfy.give(latent), "mask": comfy.give(mask)}
    seen = set()
    for seed in range(8):
        seeds = {"noise_seed" if node is graphs.custom else "seed": seed}
        got = comfy.run(node(comfy, loader, comfy.node("SetLatentNoiseMask", **wires), text, steps=1, **seeds))
        seen |= {tuple(cell) for cell in (got["samples"][0, 0] != latent["samples"][0, 0]).nonzero().tolist()}
    return seen


def shrinks_masks(comfy, loader, text):
    """Whether this ComfyUI makes a mask as small as the latent before a MODEL's own code sees it."""
    from comfy.patcher_extension import WrappersMP

    sizes, watched = [], comfy.run(loader).clone()

    def watch(executor, noise, latent_image, sampler, sigmas, mask=None, *args, **kw):
        sizes.append(tuple(mask.shape[-2:]))
        return executor(noise, latent_image, sampler, sigmas, mask, *args, **kw)

    watched.wrappers[WrappersMP.OUTER_SAMPLE] = {
        "watch": [watch],
        **watched.wrappers[WrappersMP.OUTER_SAMPLE],
    }
    masked = comfy.node(
        "SetLatentNoiseMask", samples=comfy.give(graphs.latent()), mask=comfy.give(torch.ones(1, 32, 32))
    )
    comfy.run(graphs.custom(comfy, loader, masked, text, model=comfy.give(watched), steps=1))
    return sizes == [(8, 8)]


@pytest.mark.parametrize("node", [graphs.sample, graphs.ksampler, graphs.custom])
def test_mask_of_soft_edges(comfy, start, node):
    """A grey pixel counts from one half on, and any such pixel takes its cell."""
    loader, text, _ = start
    if node is not graphs.sample and shrinks_masks(comfy, loader, text):
        pytest.skip("this ComfyUI shrinks the mask of its own samplers before the model sees it")
    mask = torch.zeros(1, 32, 32)
    mask[0, 1, 1], mask[0, 9, 9] = 0.6, 0.4
    assert redrawn(comfy, node, start, text, mask) == {(0, 0)}


@pytest.mark.parametrize("node", [graphs.sample, graphs.ksampler, graphs.custom])
def test_mask_of_thin_strokes(comfy, start, node):
    """Through the middle of cells, where every ComfyUI leaves something of them: a line, a dot, and a patch."""
    _, text, _ = start
    mask = torch.zeros(1, 32, 32)
    mask[0, 1, 4:12] = mask[0, 14, 21] = 1
    mask[0, 20:24, 20:24] = 1
    assert redrawn(comfy, node, start, text, mask) == {(0, 1), (0, 2), (3, 5), (5, 5)}
