"""Stock conditioning nodes: prompts for a part of the picture or of the time, weights, embeddings."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.comfy import graphs
from tests.comfy.graphs import same
from tests.tiny import write_tiny_checkpoint


def stroke_mask(left):
    mask = torch.zeros(1, 32, 32)
    mask[:, :, :16] = left
    mask[:, :, 16:] = 1 - left
    return mask


def conditionings(comfy, loader, text):
    """CONDITIONING by stock node."""
    other = comfy.node("CLIPTextEncode", clip=(loader, 1), text="two blue cats")
    mask = {"conditioning": other, "mask": comfy.give(stroke_mask(1.0)), "strength": 1.0}
    area = {"conditioning": other, "strength": 1.0}
    return {
        "combine": comfy.node("ConditioningCombine", conditioning_1=text, conditioning_2=other),
        "average": comfy.node(
            "ConditioningAverage", conditioning_to=text, conditioning_from=other, conditioning_to_strength=0.5
        ),
        "concat": comfy.node("ConditioningConcat", conditioning_to=text, conditioning_from=other),
        "mask": comfy.node("ConditioningSetMask", **mask, set_cond_area="default"),
        "mask bounds": comfy.node("ConditioningSetMask", **mask, set_cond_area="mask bounds"),
        "area": comfy.node("ConditioningSetArea", **area, width=64, height=64, x=0, y=0),
        "area percent": comfy.node("ConditioningSetAreaPercentage", **area, width=0.5, height=1.0, x=0.5, y=0.0),
        "range": comfy.node("ConditioningSetTimestepRange", conditioning=other, start=0.3, end=0.8),
        "zero": comfy.node("ConditioningZeroOut", conditioning=other),
        "weights": comfy.node("CLIPTextEncode", clip=(loader, 1), text="a (red:1.5) [apple]"),
        "long": comfy.node("CLIPTextEncode", clip=(loader, 1), text="a red apple on a blue plate, " * 4),
        "layer": comfy.node(
            "CLIPTextEncode",
            clip=comfy.node("CLIPSetLastLayer", clip=(loader, 1), stop_at_clip_layer=-1),
            text="a red apple",
        ),
    }


NAMES = ["combine", "average", "concat", "mask", "mask bounds", "area", "area percent", "range", "zero", "weights"]


@pytest.mark.parametrize("name", [*NAMES, "long", "layer"])
def test_conditioning(comfy, start, name):
    """Each changes the picture; those for a part of picture or time are combined with a prompt for the rest."""
    loader, text, latent = start
    positive = conditionings(comfy, loader, text)[name]
    if name in ("mask", "mask bounds", "area", "area percent", "range"):
        positive = comfy.node("ConditioningCombine", conditioning_1=positive, conditioning_2=text)
    plain, got = comfy.run(
        graphs.sample(comfy, loader, latent, text),
        graphs.sample(comfy, loader, latent, positive=positive, negative=(text, 1), text=text),
    )
    assert got["samples"].min() >= 1
    assert not same(plain, got)


def test_regional_prompts_reach_their_region_only(comfy, start):
    """Two masked prompts: the logits of each half are those of its own prompt."""
    from comfy.samplers import CFGGuider

    loader, text, _ = start
    left = comfy.node("CLIPTextEncode", clip=(loader, 1), text="two blue cats")
    model, left, right = comfy.run(loader, left, text)
    seen = {}

    def logits(conds):
        guider = CFGGuider(model)
        guider.set_conds(conds, right)
        guider.set_cfg(1.0)
        sampler = comfy.module("nodes.host.sample.sampler").amused_sampler(temperature=(0.0, 0.0), seeds=[1])
        original = guider.predict_noise

        def spy(x, *args, **kw):
            seen["logits"] = original(x, *args, **kw)
            return seen["logits"]

        guider.predict_noise = spy
        guider.sample(torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), sampler, torch.tensor([1.0, 0.0]), seed=0)
        return seen["logits"]

    def masked(cond, mask):
        return [[cond[0][0], {**cond[0][1], "mask": mask, "mask_strength": 1.0}]]

    both = logits(masked(left, stroke_mask(1.0)) + masked(right, stroke_mask(0.0)))
    torch.testing.assert_close(both[..., :4], logits(left)[..., :4])
    torch.testing.assert_close(both[..., 4:], logits(right)[..., 4:])


@pytest.fixture
def tiny16(comfy):
    """A checkpoint whose cells are 16 pixels wide, as those of amused-256 are."""
    folder = comfy.models / "amused" / "tiny16"
    write_tiny_checkpoint(folder, downsample=False, seed=4, factor=16)
    yield
    shutil.rmtree(folder)


@pytest.mark.parametrize("model", ["tiny", "tiny8", "tiny16"])
def test_an_area_in_pixels_is_that_part_of_the_image(comfy, tiny16, model):
    """Whatever the size of a cell, and in a second run, too."""
    loader = graphs.load(comfy, model)
    latent = graphs.empty(comfy, loader, 128, 128)
    cats, dogs = (comfy.give(comfy.run(graphs.prompts(comfy, loader, text))) for text in ("two blue cats", "dogs"))

    def drawn(node, width, height, x):
        sides = {"strength": 1.0, "width": width, "height": height, "y": x * 0}
        left = comfy.node(node, conditioning=cats, x=x * 0, **sides)
        right = comfy.node(node, conditioning=dogs, x=x, **sides)
        both = comfy.run(comfy.node("ConditioningCombine", conditioning_1=left, conditioning_2=right))
        runs = (graphs.sample(comfy, loader, latent, positive=comfy.give(both), seed=seed) for seed in (3, 4, 3))
        return [comfy.run(run)["samples"] for run in runs]

    pixels, shares = drawn("ConditioningSetArea", 64, 128, 64), drawn("ConditioningSetAreaPercentage", 0.5, 1.0, 0.5)
    assert all(map(torch.equal, pixels, shares)) and torch.equal(pixels[0], pixels[2])
    assert not torch.equal(pixels[0], comfy.run(graphs.sample(comfy, loader, latent, positive=cats))["samples"])


@pytest.mark.parametrize(
    ("area", "want"),
    [
        ((8, 8, 0, 0), (4, 4, 0, 0)),
        ((8, 5, 0, 0), (4, 2, 0, 0)),
        ((8, 5, 0, 5), (4, 3, 0, 2)),
        ((1, 1, 0, 0), (1, 1, 0, 0)),
        (("percentage", 0.5, 1.0, 0.5, 0.0), ("percentage", 0.5, 1.0, 0.5, 0.0)),
    ],
)
def test_areas_side_by_side_stay_so(comfy, area, want):
    given = {"area": area}
    assert comfy.module("nodes.host.sample.checks")._area_to_cells(given, 16) == {"area": want}
    assert given == {"area": area}


@pytest.fixture
def embedding(comfy):
    """A textual inversion file of two vectors."""
    import folder_paths
    from safetensors.torch import save_file

    folder = comfy.models / "embeddings"
    folder.mkdir(exist_ok=True)
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    save_file({"clip_l": vectors}, folder / "style.safetensors")
    folder_paths.add_model_folder_path("embeddings", str(folder))
    comfy.fresh()


def test_embeddings(comfy, embedding, start):
    loader, text, latent = start
    styled = graphs.prompts(comfy, loader, "a red apple embedding:style")
    plain, got = comfy.run(*(graphs.sample(comfy, loader, latent, t) for t in (text, styled)))
    assert not same(plain, got)
