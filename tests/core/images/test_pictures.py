"""Pictures and masks of every kind, and those that are refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from amused_core import AmusedModel
from tests.core.refusals import refused

PIXELS = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
FLOAT = torch.from_numpy(PIXELS).float() / 255
STROKE = np.zeros((32, 32), dtype=np.float32)
STROKE[5, 9] = STROKE[20:28, 20] = 1
CELLS = 1 + 2
NAN, INF = float("nan"), float("inf")


def tokens(model: AmusedModel, image: Any, mask: Any = None) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.generate("a cat", image=image, mask=mask, steps=2, cfg=1.0).tokens


SAME: dict[str, Any] = {
    "uint8 array": PIXELS,
    "uint8 tensor": torch.from_numpy(PIXELS),
    "uint8 batch": PIXELS[None],
    "float array": FLOAT.numpy(),
    "double array": PIXELS / 255.0,
    "tensor without batch": FLOAT,
    "not contiguous": FLOAT.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "reversed view": PIXELS[::-1][::-1],
    "reversed channels": np.ascontiguousarray(PIXELS[..., ::-1])[..., ::-1],
    "big endian": FLOAT.numpy().astype(">f4"),
    "with gradient": FLOAT.clone().requires_grad_(),
    "PIL RGB": Image.fromarray(PIXELS),
    "PIL RGBA": Image.fromarray(PIXELS).convert("RGBA"),
    "list of PIL": [Image.fromarray(PIXELS)],
    "tuple of arrays": (PIXELS,),
    "list of batches": [FLOAT[None]],
}


@pytest.mark.parametrize("image", SAME.values(), ids=SAME)
def test_the_same_picture_in_any_form(model: AmusedModel, image: Any) -> None:
    assert torch.equal(tokens(model, image), tokens(model, FLOAT[None]))


def test_a_read_only_array(model: AmusedModel) -> None:
    array = FLOAT.numpy().copy()
    array.flags.writeable = False
    assert torch.equal(tokens(model, array), tokens(model, FLOAT))


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "PA", "CMYK", "HSV", "YCbCr", "RGBX"])
def test_other_pil_modes(model: AmusedModel, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert("RGBA" if mode == "PA" else "RGB").convert(mode)
    assert torch.equal(tokens(model, image), tokens(model, image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(model: AmusedModel, mode: str) -> None:
    """Hidden colours do not come out, as on the command line."""
    image = Image.fromarray(PIXELS).convert(mode)
    image.putalpha(0)
    assert torch.equal(tokens(model, image), tokens(model, Image.new("RGB", (32, 32), "white")))


def test_sixteen_bits(model: AmusedModel) -> None:
    grey = PIXELS[..., 0]
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    assert torch.equal(tokens(model, deep), tokens(model, Image.fromarray(grey)))
    dim = Image.fromarray(np.full((32, 32), 20_000, dtype=np.uint16))
    assert torch.equal(tokens(model, PIXELS, mask=dim), model.vq.encode(FLOAT[None])), "30 % grey is no stroke"


def test_a_batch_of_pictures(model: AmusedModel) -> None:
    pair = [Image.fromarray(PIXELS), Image.new("RGB", (32, 32), "red")]
    red = torch.tensor([1.0, 0, 0]).expand(1, 32, 32, 3)
    assert torch.equal(tokens(model, pair), tokens(model, torch.cat([FLOAT[None], red])))


def test_a_picture_is_not_written_to(model: AmusedModel) -> None:
    array, mask = PIXELS.copy(), STROKE.copy()
    tokens(model, array, mask)
    assert (array == PIXELS).all() and (mask == STROKE).all()


BAD_IMAGES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "NaN": (torch.full((1, 32, 32, 3), NAN), ("nan", "0 to 1")),
    "one NaN": (torch.where(torch.arange(3072).view(1, 32, 32, 3) == 77, NAN, 0.5), ("nan", "0 to 1")),
    "infinite": (torch.full((1, 32, 32, 3), INF), ("inf", "0 to 1")),
    "0 to 255": (FLOAT * 255, ("255", "0 to 1")),
    "-1 to 1": (FLOAT * 2 - 1, ("-1", "0 to 1")),
    "4 channels": (torch.rand(1, 32, 32, 4), ("(1, 32, 32, 4)", "[B,H,W,3]")),
    "1 channel": (torch.rand(1, 32, 32, 1), ("(1, 32, 32, 1)", "[B,H,W,3]")),
    "channels first": (torch.rand(1, 3, 32, 32), ("(1, 3, 32, 32)", "[B,H,W,3]")),
    "grey": (torch.rand(32, 32), ("(32, 32)", "[B,H,W,3]")),
    "video": (torch.rand(1, 2, 32, 32, 3), ("(1, 2, 32, 32, 3)", "[B,H,W,3]")),
    "scalar": (torch.tensor(1.0), ("()", "[B,H,W,3]")),
    "empty batch": (torch.rand(0, 32, 32, 3), ("(0, 32, 32, 3)", "empty")),
    "no pixels": (torch.rand(1, 0, 0, 3), ("(1, 0, 0, 3)", "empty")),
    "empty list": ([], ("image", "empty list", "one or more")),
    "odd size": (torch.rand(1, 33, 30, 3), ("30x33", "multiples of 4", "32x32")),
    "odd PIL": (Image.new("RGB", (31, 32)), ("31x32", "multiples of 4", "32x32")),
    "smaller than a cell": (torch.rand(1, 2, 2, 3), ("2x2", "multiples of 4", "4x4")),
    "two sizes": ([FLOAT, FLOAT[:16]], ("32x32", "32x16", "one size")),
    "two shapes": ([FLOAT, torch.zeros(5)], ("(5,)",)),
    "int64": (torch.zeros(32, 32, 3, dtype=torch.int64), ("int64", "floating point")),
    "uint16": (np.zeros((32, 32, 3), dtype=np.uint16), ("uint16", "floating point")),
    "complex": (torch.zeros(32, 32, 3, dtype=torch.complex64), ("complex64", "real numbers")),
    "objects": (np.array([[None]]), ("object",)),
    "text array": (np.array(["a"]), ("image",)),
    "path": ("picture.png", ("image is a str", "PIL images, arrays and tensors")),
    "number": (5, ("image is a int", "PIL images, arrays and tensors")),
    "list of numbers": ([1, 2], ("image is a int", "PIL images, arrays and tensors")),
    "dict": ({"image": 1}, ("image is a dict", "PIL images, arrays and tensors")),
}


@pytest.mark.parametrize(("image", "parts"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_refused_pictures(model: AmusedModel, image: Any, parts: tuple[str, ...]) -> None:
    refused(model, *parts, image=image)


SAME_MASKS: dict[str, Any] = {
    "array": STROKE,
    "tensor": torch.from_numpy(STROKE),
    "batch": torch.from_numpy(STROKE)[None],
    "bool": STROKE > 0,
    "uint8 0 to 255": (STROKE * 255).astype(np.uint8),
    "uint8 0 and 1": STROKE.astype(np.uint8),
    "double": STROKE.astype(np.float64),
    "reversed view": STROKE[::-1][::-1],
    "PIL L": Image.fromarray((STROKE * 255).astype(np.uint8)),
    "PIL 1": Image.fromarray((STROKE * 255).astype(np.uint8)).convert("1"),
    "PIL RGB": Image.fromarray((STROKE * 255).astype(np.uint8)).convert("RGB"),
    "list": [STROKE],
}


@pytest.mark.parametrize("mask", SAME_MASKS.values(), ids=SAME_MASKS)
def test_the_same_mask_in_any_form(model: AmusedModel, mask: Any) -> None:
    seen = []
    model.generate("a cat", image=FLOAT, mask=mask, steps=1, on_step=seen.append)
    out = tokens(model, FLOAT, mask)
    assert torch.equal(out, tokens(model, FLOAT, torch.from_numpy(STROKE)))
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[1, 2] = outside[5, 5] = outside[6, 5] = False
    assert torch.equal(out[0][outside], model.vq.encode(FLOAT[None])[0][outside]) and len(seen) == 1


BAD_MASKS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "NaN": (torch.full((32, 32), NAN), ("NaN", "0 to 1")),
    "infinite": (torch.full((32, 32), INF), ("inf", "0 to 1")),
    "0 to 255": (torch.full((32, 32), 255.0), ("255", "0 to 1")),
    "negative": (torch.full((32, 32), -1.0), ("-1", "0 to 1")),
    "complex": (torch.ones(32, 32, dtype=torch.complex64), ("complex",)),
    "int64": (STROKE.astype(np.int64), ("int64", "bool, uint8, or floating point")),
    "channel": (torch.ones(1, 1, 32, 32), ("(1, 1, 32, 32)", "[B,H,W]")),
    "smaller": (torch.ones(16, 32), ("32x16", "32x32", "same size")),
    "larger PIL": (Image.new("L", (64, 32)), ("64x32", "32x32", "same size")),
    "empty batch": (torch.ones(0, 32, 32), ("(0, 32, 32)", "empty")),
    "empty list": ([], ("mask", "empty list", "one or more")),
    "two shapes": ([torch.ones(32, 32), torch.ones(5)], ("(5,)",)),
    "two sizes": ([torch.ones(32, 32), torch.ones(16, 16)], ("16x16", "32x32", "one size")),
    "path": ("mask.png", ("mask is a str", "PIL images, arrays and tensors")),
}


@pytest.mark.parametrize(("mask", "parts"), BAD_MASKS.values(), ids=BAD_MASKS)
def test_refused_masks(model: AmusedModel, mask: Any, parts: tuple[str, ...]) -> None:
    refused(model, *parts, image=FLOAT, mask=mask)


def test_a_mask_needs_a_picture(model: AmusedModel) -> None:
    refused(model, "mask", "without an image", mask=STROKE)


@pytest.mark.parametrize(("name", "value"), [("width", 16), ("height", 64)])
def test_width_and_height_come_from_the_picture(model: AmusedModel, name: str, value: int) -> None:
    refused(model, f"{name} is {value}", "32", image=FLOAT, **{name: value})
    same = model.generate("a cat", image=FLOAT, width=32, height=32, steps=2, cfg=1.0).tokens
    assert torch.equal(same, tokens(model, FLOAT))
