"""The pixels outside a mask: the original's own, up to a soft edge within."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from amused_core import AmusedModel
from amused_core.cli import main
from amused_core.images.composite import composite
from amused_core.images.masks import cells_to_mask, feather
from tests.core.refusals import refused

FACTOR = 4
STROKE = torch.zeros(1, 32, 32)
STROKE[0, 9:23, 13:30] = 1
CELLS = torch.zeros(1, 8, 8, dtype=torch.bool)
CELLS[0, 2:6, 3:8] = True
INSIDE = cells_to_mask(CELLS, FACTOR)
RUN: dict[str, Any] = {"steps": 2, "cfg": 1.0}


def test_pixels_outside_the_mask_are_the_originals(model: AmusedModel, picture: torch.Tensor) -> None:
    """diffusers#4782: decoding alone changes them all."""
    kept = model.generate("a cat", image=picture, mask=STROKE, **RUN)
    plain = model.generate("a cat", image=picture, mask=STROKE, keep_original=False, **RUN)
    outside = INSIDE == 0
    assert torch.equal(kept.images[outside], picture[outside])
    assert (plain.images[outside] != picture[outside]).any(-1).all(), "nothing to see: the VQ keeps pixels"
    assert torch.equal(kept.tokens, plain.tokens) and torch.equal(plain.images, model.vq.decode(plain.tokens))
    settled = feather(INSIDE, 2) == 1
    assert settled.sum() > 50 and torch.equal(kept.images[settled], plain.images[settled])


def test_the_edge_is_that_of_the_composite_node(model: AmusedModel, picture: torch.Tensor) -> None:
    """Two pixels, as its default: a share of the one and the rest of the other, within the mask."""
    kept = model.generate("a cat", image=picture, mask=STROKE, **RUN).images
    plain = model.generate("a cat", image=picture, mask=STROKE, keep_original=False, **RUN).images
    share = feather(INSIDE, 2)[..., None]
    assert 0 < share[0, 10, 13, 0] < 1
    torch.testing.assert_close(kept, picture * (1 - share) + plain * share)


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
def test_batches(model: AmusedModel, picture: torch.Tensor, seeding: str) -> None:
    pictures = torch.cat([picture, picture.flip(1)])
    masks = torch.cat([STROKE, STROKE.flip(2)])
    for image, mask in ((pictures, STROKE), (picture, masks), (pictures, masks)):
        result = model.generate("a cat", image=image, mask=mask, seeding=seeding, **RUN)
        for index in (0, 1):
            original = image[index % len(image)]
            outside = (INSIDE if mask[index % len(mask)].equal(STROKE[0]) else INSIDE.flip(2))[0] == 0
            assert torch.equal(result.images[index][outside], original[outside])


def test_no_mask_no_original(model: AmusedModel, picture: torch.Tensor) -> None:
    for image in (None, picture):
        result = model.generate("a cat", image=image, **RUN)
        assert torch.equal(result.images, model.vq.decode(result.tokens))


def test_an_empty_mask_gives_the_picture_and_a_whole_one_the_decoded(model: AmusedModel, picture: torch.Tensor) -> None:
    empty = model.generate("a cat", image=picture, mask=torch.zeros(1, 32, 32), **RUN)
    assert torch.equal(empty.images, picture)
    whole = model.generate("a cat", image=picture, mask=torch.ones(1, 32, 32), **RUN)
    assert torch.equal(whole.images, model.vq.decode(whole.tokens))


def test_the_settings_say_it(model: AmusedModel, picture: torch.Tensor) -> None:
    for keep in (True, False):
        result = model.generate("a cat", image=picture, mask=STROKE, keep_original=keep, **RUN)
        again = model.generate(image=picture, mask=STROKE, **result.settings[0])
        assert result.settings[0]["keep_original"] is keep and torch.equal(again.images, result.images)


@pytest.mark.parametrize("value", [None, 1, "no"])
def test_the_switch_is_true_or_false(model: AmusedModel, value: Any) -> None:
    refused(model, f"keep_original is {value!r}; allowed are True and False.", keep_original=value)


@pytest.mark.parametrize("switch", [[], ["--no-keep-original"]])
def test_the_command(
    folder: Path, png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray((STROKE[0] * 255).byte().numpy()).save("mask.png")
    words = ["--model", str(folder), "--image", str(png), "--mask", "mask.png", "--steps", "2", *switch]
    assert main(["generate", "a cat", *words]) == 0
    drawn, original = np.array(Image.open("amused.png")), np.array(Image.open(png))
    changed = (drawn != original).any(-1)[INSIDE[0].numpy() == 0]
    assert changed.mean() > 0.9 if switch else not changed.any()


def test_a_hard_edge() -> None:
    below, above = torch.zeros(1, 32, 32, 3), torch.ones(1, 32, 32, 3)
    assert torch.equal(composite(below, above, INSIDE, 0)[..., 0], INSIDE)
