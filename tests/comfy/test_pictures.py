"""Nodes between pictures and tokens: VQ encode and decode, inpainting."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs


def encode(comfy, image, sides="crop", tile_size=0, model="tiny"):
    vae = (graphs.load(comfy, model), 2)
    return comfy.node("AmusedVQEncode", pixels=comfy.give(image), vae=vae, sides=sides, tile_size=tile_size)


@pytest.mark.parametrize(("sides", "grid"), [("crop", (7, 8)), ("pad", (8, 9)), ("resize", (8, 8))])
def test_vq_encode_sizes(comfy, sides, grid):
    latent = comfy.run(encode(comfy, graphs.picture(2, 31, 33), sides))
    assert tuple(latent["samples"].shape) == (2, 1, *grid)


def test_vq_encode_is_the_stock_encoder(comfy):
    image = graphs.picture(2)
    own = encode(comfy, image)
    stock = comfy.node("VAEEncode", pixels=comfy.give(image), vae=own.inputs["vae"])
    one, two = comfy.run(own, stock)
    assert torch.equal(one["samples"], two["samples"])


def test_vq_encode_refuses_when_told(comfy):
    with pytest.raises(Exception, match="33x31 pixels; both sides must be multiples of 4"):
        comfy.run(encode(comfy, graphs.picture(1, 31, 33), "refuse"))


@pytest.mark.parametrize("node", ["AmusedVQEncode", "VAEEncodeTiled"])
def test_tiled_encoding_gives_tokens(comfy, node):
    """The tiles are blended before the nearest codes are taken: whole ids, mostly those of the whole picture."""
    image = graphs.picture(1, 128, 160)
    whole = encode(comfy, image)
    tiled = encode(comfy, image, tile_size=64)
    if node == "VAEEncodeTiled":
        own = {"tile_size": 64, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}
        tiled = comfy.node(node, pixels=comfy.give(image), vae=whole.inputs["vae"], **own)
    whole, tiled = comfy.run(whole, tiled)
    assert tiled["samples"].shape == whole["samples"].shape
    assert torch.equal(tiled["samples"], tiled["samples"].round()) and tiled["samples"].min() >= 1
    assert (tiled["samples"] == whole["samples"]).float().mean() > 0.5


def test_vq_decode_shows_undecided_tokens_grey(comfy):
    latent = graphs.latent(2)
    latent["samples"][0, 0, 2:4] = 0
    latent["samples"][1] = 0
    vae = (graphs.load(comfy), 2)
    decode = comfy.node("AmusedVQDecode", samples=comfy.give(latent), vae=vae, tile_size=0)
    image, stock = comfy.run(decode, comfy.node("VAEDecode", samples=comfy.give(latent), vae=vae))
    assert torch.equal(image, stock)
    assert (image[0, 8:16] == 0.5).all() and (image[1] == 0.5).all()
    assert (image[0, :8] != 0.5).any()


def test_tiled_decoding(comfy):
    latent, vae = graphs.latent(1, 24, 40), (graphs.load(comfy), 2)

    def decode(tile_size):
        return comfy.node("AmusedVQDecode", samples=comfy.give(latent), vae=vae, tile_size=tile_size)

    whole, tiled = comfy.run(decode(0), decode(64))
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.05


def inpaint(comfy, image, mask, **settings):
    own = {"grow": 0, "invert": False, "sides": "crop"}
    vae = (graphs.load(comfy), 2)
    wires = {"pixels": comfy.give(image), "mask": comfy.give(mask), "vae": vae}
    return comfy.node("AmusedInpaintMask", **(wires | own | settings))


def stroke():
    """MASK of one pixel."""
    mask = torch.zeros(1, 32, 32)
    mask[0, 13, 22] = 1
    return mask


@pytest.mark.parametrize(("settings", "count"), [({}, 1), ({"grow": 1}, 9), ({"invert": True}, 63)])
def test_inpaint_mask(comfy, settings, count):
    node = inpaint(comfy, graphs.picture(), stroke(), **settings)
    latent, mask, image = comfy.run(node, (node, 1), (node, 2))
    assert mask.shape == (1, 32, 32) and int(mask.sum()) == count * 16
    assert latent["samples"].shape == (1, 1, 8, 8)
    assert torch.equal(latent["noise_mask"][:, 0], mask)
    assert torch.equal(image, graphs.picture())


def test_inpaint_mask_of_another_size(comfy):
    """A mask of any size is laid over the picture, and no stroke gets lost."""
    mask = torch.zeros(1, 320, 320)
    mask[0, 135, 225] = 1
    node = inpaint(comfy, graphs.picture(), mask)
    assert torch.equal(comfy.run((node, 1)), comfy.run((inpaint(comfy, graphs.picture(), stroke()), 1)))


@pytest.mark.parametrize("sides", ["crop", "pad", "resize"])
def test_inpaint_mask_keeps_thin_strokes_at_any_size(comfy, sides):
    mask = torch.zeros(1, 34, 37)
    mask[0, 17] = 1
    node = inpaint(comfy, graphs.picture(1, 34, 37), mask, sides=sides)
    latent, mask = comfy.run(node, (node, 1))
    rows = mask[0].amax(dim=1)
    assert int(rows.sum()) == 4 and (mask[0][rows > 0] == 1).all()
    assert latent["samples"].shape[2] * 4 == mask.shape[1]


def test_inpaint_mask_and_picture_are_cut_alike(comfy):
    node = inpaint(comfy, graphs.picture(1, 35, 33), torch.ones(1, 35, 33))
    latent, mask, image = comfy.run(node, (node, 1), (node, 2))
    assert latent["samples"].shape[2:] == (8, 8) and mask.shape[1:] == image.shape[1:3] == (32, 32)


def test_inpaint_batches(comfy):
    """One mask for many pictures, one picture for many masks; other counts are refused."""
    one = inpaint(comfy, graphs.picture(3), stroke())
    many = inpaint(comfy, graphs.picture(1), stroke().expand(3, -1, -1))
    assert len(comfy.run((one, 1))) == len(comfy.run((many, 1))) == 3
    assert comfy.run(many)["samples"].shape[0] == 3
    with pytest.raises(Exception, match=r"image 3, mask 2"):
        comfy.run(inpaint(comfy, graphs.picture(3), stroke().expand(2, -1, -1)))


def test_inpaint_composite(comfy):
    """Outside the mask the original's exact pixels, inside the new ones, feathered within the mask."""
    original, generated, mask = graphs.picture(1), graphs.picture(2, seed=8), graphs.block_mask()

    def composite(feather):
        wires = {"original": original, "generated": generated, "mask": mask}
        wires = {name: comfy.give(value) for name, value in wires.items()}
        return comfy.node("AmusedInpaintComposite", feather=feather, **wires)

    hard, soft = comfy.run(composite(0), composite(2))
    inside = mask[0] > 0
    for image in (hard, soft):
        assert image.shape == (2, 32, 32, 3)
        assert torch.equal(image[:, ~inside], original.expand(2, -1, -1, -1)[:, ~inside])
    assert torch.equal(hard[:, inside], generated[:, inside])
    assert torch.equal(soft[:, 17:19, 11:13], generated[:, 17:19, 11:13])
    assert not torch.equal(soft[:, 8], hard[:, 8])


def test_inpaint_composite_needs_one_size(comfy):
    wires = {"original": graphs.picture(1, 40, 32), "generated": graphs.picture(), "mask": graphs.block_mask()}
    node = comfy.node("AmusedInpaintComposite", feather=0, **{k: comfy.give(v) for k, v in wires.items()})
    with pytest.raises(Exception, match="32x40 and 32x32"):
        comfy.run(node)
