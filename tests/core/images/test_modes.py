"""Pictures and masks in every mode of PIL, read alike by `generate`, the command and the pipelines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amused_core import AmusedError
from amused_core.images import pixels
from amused_core.images.files import open_mask, open_picture
from amused_core.pipelines import pictures as pipelines

SIDE, FACTOR = 32, 4
COLOURS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
LEVELS = COLOURS[..., 0]
STROKE = np.zeros((SIDE, SIDE), dtype=np.uint8)
STROKE[8:24, 8:24] = 255
CELLS = torch.zeros(1, 8, 8, dtype=torch.bool)
CELLS[:, 2:6, 2:6] = True  # 16


def deep(levels: np.ndarray, mode: str) -> Image.Image:
    """A picture of bytes in a mode of more bits."""
    dtype, scale = {
        "I;16": ("<u2", 257), "I;16L": ("<u2", 257), "I;16B": (">u2", 257), "I": ("<i4", 257), "I of bytes": ("<i4", 1),
        "F": ("<f4", 1 / 255), "F of bytes": ("<f4", 1), "F of 16 bits": ("<f4", 257),
    }[mode]  # fmt: skip
    mode = mode.partition(" ")[0]
    return Image.frombytes(mode, levels.shape[::-1], (levels * np.float64(scale)).astype(dtype).tobytes())


DEEP = ["I;16", "I;16L", "I;16B", "I", "I of bytes", "F", "F of bytes", "F of 16 bits"]


def images_of(picture: Image.Image) -> torch.Tensor:
    """The bytes [H,W,3] that `generate` sees, after a look that the pipelines see the same."""
    got = pixels.images(picture, FACTOR)
    assert torch.equal(pipelines.images(picture, FACTOR), got)
    return (got[0] * 255).round().byte()


def cells_of(mask: Image.Image) -> torch.Tensor:
    """The cells that `generate` draws anew, after a look that the pipelines draw the same."""
    got = pixels.masks(mask, (SIDE, SIDE), FACTOR)
    assert torch.equal(pipelines.cells(mask, (SIDE, SIDE), FACTOR), got)
    return got


@pytest.mark.parametrize("mode", DEEP)
def test_a_deep_picture(mode: str) -> None:
    want = torch.from_numpy(LEVELS)[..., None].expand(-1, -1, 3)
    assert torch.equal(images_of(deep(LEVELS, mode)), want)


@pytest.mark.parametrize("mode", DEEP)
def test_a_deep_mask(mode: str) -> None:
    assert torch.equal(cells_of(deep(STROKE, mode)), CELLS)
    assert not cells_of(deep(np.zeros_like(STROKE), mode)).any()


def test_whole_numbers_of_0_and_1_are_a_mask() -> None:
    assert torch.equal(cells_of(Image.fromarray((STROKE > 0).astype(np.int32))), CELLS)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_an_opaque_mode(mode: str) -> None:
    """As PIL itself converts them, which is how diffusers reads a mask."""
    picture, mask = Image.fromarray(COLOURS).convert(mode), Image.fromarray(STROKE).convert("RGB").convert(mode)
    assert torch.equal(images_of(picture), torch.from_numpy(np.array(picture.convert("RGB"))))
    assert torch.equal(cells_of(mask), CELLS)


def test_lab() -> None:
    from PIL import ImageCms

    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    soft = Image.fromarray(COLOURS // 2 + 64)
    got = images_of(ImageCms.applyTransform(soft, to_lab))
    assert (got.int() - torch.from_numpy(np.array(soft)).int()).abs().max() <= 8
    mask = ImageCms.applyTransform(Image.fromarray(STROKE).convert("RGB"), to_lab)
    assert mask.mode == "LAB" and torch.equal(cells_of(mask), CELLS)


def veiled(mode: str, color: int, alpha: np.ndarray) -> Image.Image:
    """One grey everywhere, with an alpha channel, or (modes with `+`) with one transparent value."""
    levels = np.full((SIDE, SIDE), color, dtype=np.uint8)
    if mode in ("L+", "I;16+"):
        levels[alpha == 0] = 7
        picture = Image.fromarray(levels) if mode == "L+" else deep(levels, "I;16")
        picture.info["transparency"] = 7 if mode == "L+" else 7 * 257
        return picture
    if mode == "P+":
        picture = Image.fromarray((alpha == 0).astype(np.uint8))
        picture.putpalette([color] * 3 + [255] * 3)
        picture.info["transparency"] = 1
        return picture
    la = Image.merge("LA", [Image.fromarray(levels), Image.fromarray(alpha)])
    return la.convert("RGBA").convert(mode) if mode in ("PA", "RGBa") else la.convert(mode)


VEILED = ["LA", "La", "PA", "RGBA", "RGBa", "L+", "P+", "I;16+"]


@pytest.mark.parametrize("mode", VEILED)
def test_white_strokes_on_a_clear_layer(mode: str) -> None:
    """sd-webui-controlnet#3079: 16 cells, not all 256 of a picture."""
    mask = veiled(mode, 255, STROKE)
    assert torch.equal(cells_of(mask), CELLS)
    assert not cells_of(veiled(mode, 0, STROKE)).any(), "black strokes are none"


@pytest.mark.parametrize("mode", VEILED)
def test_a_clear_layer_is_white_in_a_picture(mode: str) -> None:
    got = images_of(veiled(mode, 60, STROKE))
    assert torch.equal(got, torch.where(torch.from_numpy(STROKE) > 0, 60, 255).byte()[..., None].expand(-1, -1, 3))


def test_half_transparent() -> None:
    half = np.full((SIDE, SIDE), 100, dtype=np.uint8)
    assert (images_of(veiled("LA", 0, half)) == 155).all()
    assert not cells_of(veiled("LA", 255, half)).any() and cells_of(veiled("LA", 255, half + 100)).all()


UNKNOWN = {
    "F below 0": (np.linspace(-1, 1, SIDE * SIDE, dtype=np.float32), "'F' has values from -1 to 1"),
    "F above all": (np.full(SIDE * SIDE, 70000, dtype=np.float32), "'F' has values from 70000 to 70000"),
    "F NaN": (np.full(SIDE * SIDE, np.nan, dtype=np.float32), "'F' has values from nan to nan"),
    "F infinite": (np.full(SIDE * SIDE, np.inf, dtype=np.float32), "'F' has values from inf to inf"),
    "I below 0": (np.arange(SIDE * SIDE, dtype=np.int32) - 5, "'I' has values from -5 to 1018"),
    "I above all": (np.arange(SIDE * SIDE, dtype=np.int32) * 100, "'I' has values from 0 to 102300"),
}


@pytest.mark.parametrize(("values", "part"), UNKNOWN.values(), ids=UNKNOWN)
def test_values_of_no_range_are_refused(values: np.ndarray, part: str, tmp_path: Path) -> None:
    picture = Image.fromarray(values.reshape(SIDE, SIDE))
    picture.save(tmp_path / "x.tif")
    reads: list[Callable[[], object]] = [
        lambda: pixels.images(picture, FACTOR),
        lambda: pixels.masks(picture, (SIDE, SIDE), FACTOR),
        lambda: pipelines.images(picture, FACTOR),
        lambda: pipelines.cells(picture, (SIDE, SIDE), FACTOR),
        lambda: open_picture(str(tmp_path / "x.tif")),
        lambda: open_mask(str(tmp_path / "x.tif")),
    ]
    for read in reads:
        with pytest.raises(AmusedError, match=r"allowed are 0 to 1, 0 to 255 or 0 to 65535\.$") as caught:
            read()
        assert part in str(caught.value)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_files(mode: str, ending: str, tmp_path: Path) -> None:
    """What the command opens is what `generate` makes of the picture itself."""
    if ending == "png" and mode in ("CMYK", "I", "F"):
        pytest.skip("PNG has no such mode")
    file = tmp_path / f"x.{ending}"
    deeper = mode in ("I", "I;16", "F")
    (deep(STROKE, mode) if deeper else Image.fromarray(STROKE).convert("RGB").convert(mode)).save(file)
    with Image.open(file) as opened:
        assert torch.equal(images_of(open_picture(str(file))), images_of(opened))
        assert torch.equal(cells_of(open_mask(str(file))), cells_of(opened)) and torch.equal(cells_of(opened), CELLS)


def test_a_dark_file_of_16_bits_stays_dark(tmp_path: Path) -> None:
    """Its format says what white is, whichever mode this Pillow opens it in."""
    dark = np.full((SIDE, SIDE), 200, dtype=np.uint16)
    Image.fromarray(dark).save(tmp_path / "x.png")
    (tmp_path / "x.pgm").write_bytes(b"P5 32 32 65535\n" + dark.astype(">u2").tobytes())
    for name in ("x.png", "x.pgm"):
        assert np.array(open_mask(str(tmp_path / name))).max() == 1
        assert not cells_of(Image.open(tmp_path / name)).any()


def test_a_nested_tensor_is_refused_in_one_sentence() -> None:
    nested = torch.nested.nested_tensor([torch.rand(3, 8, 8), torch.rand(3, 4, 4)])
    with pytest.raises(AmusedError, match="image is .*; allowed are dense tensors"):
        pipelines.images(nested, FACTOR)
    with pytest.raises(AmusedError, match="mask_image is .*; allowed are dense tensors"):
        pipelines.cells(nested, (SIDE, SIDE), FACTOR)


def test_a_mask_without_pixels_is_refused_in_one_sentence() -> None:
    with pytest.raises(AmusedError, match=r"The mask has the size \(0, 0\); it must have pixels\."):
        pipelines.cells(Image.new("1", (0, 0)), (SIDE, SIDE), FACTOR)
