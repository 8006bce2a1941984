"""Pictures, seeds and masks: what a picture may depend on, and what may never change."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs

SAMPLERS = {"all in one": graphs.sample, "custom": graphs.custom, "ksampler": graphs.ksampler}


@pytest.mark.parametrize("build", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("model", ["tiny", "tiny512"])
def test_a_picture_is_the_same_alone_and_in_a_batch(comfy, build, model):
    loader = graphs.load(comfy, model)
    start = graphs.empty(comfy, loader, batch=4)
    alone = comfy.node("LatentFromBatch", samples=start, batch_index=2, length=1)
    batch, one = comfy.run(build(comfy, loader, start), build(comfy, loader, alone))
    assert torch.equal(batch["samples"][2:3], one["samples"])
    assert not torch.equal(batch["samples"][0], batch["samples"][1])


def test_seeds_count_up(comfy):
    loader = graphs.load(comfy)
    batch = graphs.sample(comfy, loader, graphs.empty(comfy, loader, batch=3), seed=2**64 - 2)
    last = graphs.sample(comfy, loader, graphs.empty(comfy, loader), seed=0)
    batch, last = comfy.run(batch, last)
    assert torch.equal(batch["samples"][2:], last["samples"]), "seeds go on at 0 after the largest one"


def test_picture_to_picture_alone_and_in_a_batch(comfy):
    loader, latent = graphs.load(comfy), graphs.latent(3)
    alone = {"samples": latent["samples"][1:2], "batch_index": [1]}
    runs = [graphs.sample(comfy, loader, comfy.give(value), denoise=0.5) for value in (latent, alone)]
    batch, one = comfy.run(*runs)
    assert torch.equal(batch["samples"][1:2], one["samples"])


@pytest.mark.parametrize("model", ["tiny", "tiny512"])
@pytest.mark.parametrize(("width", "height"), [(20, 28), (36, 32), (60, 12), (4, 4)])
def test_odd_grids(comfy, model, width, height):
    loader = graphs.load(comfy, model)
    run = graphs.sample(comfy, loader, graphs.empty(comfy, loader, width, height, batch=2), steps=3)
    latent, image = comfy.run(run, comfy.node("VAEDecode", samples=run, vae=(loader, 2)))
    assert latent["samples"].shape == (2, 1, height // 4, width // 4) and latent["samples"].min() >= 1
    assert image.shape == (2, height, width, 3)


def masked(comfy, latent, mask):
    """Stock SetLatentNoiseMask."""
    return comfy.node("SetLatentNoiseMask", samples=comfy.give(latent), mask=comfy.give(mask))


@pytest.mark.parametrize("build", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("denoise", [1.0, 0.5])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_kept_tokens_never_change(comfy, build, denoise, dtype):
    loader, latent, mask = graphs.load(comfy, dtype=dtype), graphs.latent(2), graphs.block_mask()
    got = comfy.run(build(comfy, loader, masked(comfy, latent, mask), denoise=denoise))
    cells = mask[0, ::4, ::4] > 0
    changed = got["samples"][:, 0] != latent["samples"][:, 0]
    assert not changed[:, ~cells].any()
    assert changed[:, cells].any()


@pytest.mark.parametrize("build", SAMPLERS.values(), ids=SAMPLERS)
def test_an_empty_mask_changes_nothing(comfy, build):
    loader, latent = graphs.load(comfy), graphs.latent(2)
    got = comfy.run(build(comfy, loader, masked(comfy, latent, torch.zeros(1, 32, 32))))
    assert torch.equal(got["samples"], latent["samples"])


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
def test_one_pixel_redraws_its_cell(comfy, seeding):
    """ComfyUI alone would shrink the mask smoothly and lose it."""
    loader, latent = graphs.load(comfy), graphs.latent()
    mask = torch.zeros(1, 32, 32)
    mask[0, 13, 22] = 1
    start, seen = masked(comfy, latent, mask), set()
    for seed in range(8):
        got = comfy.run(graphs.sample(comfy, loader, start, seed=seed, steps=2, seeding=seeding))
        changed = got["samples"][0, 0] != latent["samples"][0, 0]
        seen |= {tuple(cell) for cell in changed.nonzero().tolist()}
    assert seen == {(13 // 4, 22 // 4)}


def test_each_picture_has_its_own_mask_ratio(comfy):
    """The small mask beside a large one gives what it gives alone; diffusers takes the mean of both."""
    loader, latent = graphs.load(comfy), graphs.latent(2)
    masks = torch.zeros(2, 32, 32)
    masks[0, :8, :8] = 1
    masks[1] = 1
    both = graphs.sample(comfy, loader, masked(comfy, latent, masks), steps=4)
    alone = {"samples": latent["samples"][:1]}
    both, alone = comfy.run(both, graphs.sample(comfy, loader, masked(comfy, alone, masks[:1]), steps=4))
    assert torch.equal(both["samples"][:1], alone["samples"])


def test_strength_one_ignores_the_picture(comfy):
    loader = graphs.load(comfy)
    runs = [graphs.sample(comfy, loader, comfy.give(graphs.latent(seed=seed))) for seed in (1, 2)]
    one, other, new = comfy.run(*runs, graphs.sample(comfy, loader, graphs.empty(comfy, loader)))
    assert torch.equal(one["samples"], other["samples"]) and torch.equal(one["samples"], new["samples"])


@pytest.mark.parametrize("denoise", [0.0, 0.01, 0.3, 0.6, 0.9])
def test_denoise_sets_how_much_is_drawn_anew(comfy, denoise):
    loader, latent = graphs.load(comfy), graphs.latent()
    got = comfy.run(graphs.sample(comfy, loader, comfy.give(latent), steps=10, denoise=denoise))
    run = len(comfy.steps)
    changed = int((got["samples"] != latent["samples"]).sum())
    if denoise == 0:
        assert changed == 0 and run == 0
        return
    assert run == max(1, int(10 * denoise)), "a small denoise still runs a step"
    kept = torch.cos(torch.tensor((10 - run) / 10 * torch.pi / 2)) * 64
    assert 0 < changed <= int(kept)


def test_cells_outside_the_mask_stay_undecided(comfy):
    """A mask on an empty latent draws only there; the rest is shown grey."""
    loader = graphs.load(comfy)
    start = comfy.node("SetLatentNoiseMask", samples=graphs.empty(comfy, loader), mask=comfy.give(graphs.block_mask()))
    run = graphs.sample(comfy, loader, start)
    latent, image = comfy.run(run, comfy.node("AmusedVQDecode", samples=run, vae=(loader, 2), tile_size=0))
    cells = graphs.block_mask()[0, ::4, ::4] > 0
    assert torch.equal(latent["samples"][0, 0] > 0, cells)
    assert (image[0, graphs.block_mask()[0] == 0] == 0.5).all()


def test_recommended_guidance(comfy):
    """A guidance of 0 is the model's own: 4 for the 256 shape, 10 for the 512 shape."""
    for model, cfg in (("tiny", 4.0), ("tiny512", 10.0)):
        loader = graphs.load(comfy, model)
        start = graphs.empty(comfy, loader)
        own, same, other = comfy.run(*(graphs.sample(comfy, loader, start, cfg=value) for value in (0.0, cfg, 7.0)))
        assert torch.equal(own["samples"], same["samples"])
        assert not torch.equal(own["samples"], other["samples"])
