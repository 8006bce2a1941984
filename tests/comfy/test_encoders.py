"""Pictures and masks as users have them, in every node that encodes: transparency, and masks without a stroke."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs

ENCODERS = {
    "VAEEncode": ({}, {}),
    "VAEEncodeTiled": ({}, {"tile_size": 64, "overlap": 0, "temporal_size": 64, "temporal_overlap": 8}),
    "VAEEncodeForInpaint": ({"mask": True}, {"grow_mask_by": 0}),
    "InpaintModelConditioning": ({"mask": True, "conditioning": True}, {"noise_mask": True}),
    "AmusedVQEncode": ({}, {"sides": "crop", "tile_size": 0}),
    "AmusedInpaintMask": ({"mask": True}, {"grow": 0, "invert": False, "sides": "crop"}),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_pictures_with_transparency(comfy, start, name):
    """Every encoder takes them, and reads the colours."""
    loader, text, _ = start
    wires, settings = ENCODERS[name]
    colours, found = graphs.picture(), []
    for picture in (colours, torch.cat([colours, torch.rand(1, 32, 32, 1)], dim=-1)):
        own = {"pixels": comfy.give(picture), "vae": (loader, 2), **settings}
        if "mask" in wires:
            own["mask"] = comfy.give(graphs.block_mask())
        if "conditioning" in wires:
            own |= {"positive": text, "negative": (text, 1)}
        found.append(comfy.run((comfy.node(name, **own), 2 if "conditioning" in wires else 0))["samples"])
    assert found[0].shape == (1, 1, 8, 8) and torch.equal(*found)


NO_MASK = torch.zeros(1, 64, 64)


@pytest.mark.parametrize("name", ["SetLatentNoiseMask", "VAEEncodeForInpaint", "AmusedInpaintMask"])
def test_an_empty_mask_is_told(comfy, start, name, caplog):
    """'Load Image' gives one of 64x64 zeros for a picture without transparency; then no token is regenerated."""
    loader, text, _ = start
    picture = {"pixels": comfy.give(graphs.picture()), "vae": (loader, 2)}
    settings = {
        "SetLatentNoiseMask": {"samples": comfy.give(graphs.latent())},
        "VAEEncodeForInpaint": {**picture, "grow_mask_by": 0},
        "AmusedInpaintMask": {**picture, "grow": 0, "invert": False, "sides": "crop"},
    }
    runs = []
    for mask in (graphs.block_mask(), NO_MASK):
        latent = comfy.node(name, mask=comfy.give(mask), **settings[name])
        caplog.clear()
        before, after = comfy.run(latent, graphs.sample(comfy, loader, latent, text))
        runs.append(("mask is empty" in caplog.text, torch.equal(before["samples"], after["samples"])))
    assert runs == [(False, False), (True, True)]


def test_an_empty_mask_is_told_where_it_is_made(comfy, start, caplog):
    """Before any run; but an inverted one is full, and a grown stroke may fill it."""
    own = {"pixels": comfy.give(graphs.picture()), "vae": (start[0], 2), "grow": 0, "sides": "crop"}
    told = []
    for mask, invert in ((NO_MASK, False), (NO_MASK, True), (graphs.block_mask(), False)):
        caplog.clear()
        comfy.run(comfy.node("AmusedInpaintMask", **own, mask=comfy.give(mask), invert=invert))
        told.append("is empty" in caplog.text and "'Load Image'" in caplog.text)
    assert told == [True, False, False]
