"""Picture files of the command line: opening, and saving with the settings that made them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import AmusedError
from ..files.writing import beside
from .modes import grey, rgb

if TYPE_CHECKING:
    from PIL import Image

METADATA_KEY = "amused"


def open_picture(path: str) -> Image.Image:
    """A picture file, turned as its EXIF orientation says, as RGB on white.

    Raises:
        AmusedError: missing or not a picture.
    """
    return _open(path, rgb)


def open_mask(path: str) -> Image.Image:
    """A mask file as one channel, turned as its EXIF orientation says; white = draw anew.

    Raises:
        AmusedError: missing or not a picture.
    """
    return _open(path, grey)


def save_pictures(images: Tensor, path: Path, about: list[dict[str, Any]]) -> list[Path]:
    """Writes float [B,H,W,3] pictures as PNG with its `about` each; several are numbered -0, -1, ....

    Raises:
        AmusedError: one cannot be written; those before it are whole.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    pixels = (images.clamp(0, 1) * 255).round().byte().numpy()
    files = [path] if len(pixels) == 1 else [path.with_stem(f"{path.stem}-{i}") for i in range(len(pixels))]
    for array, file, item in zip(pixels, files, about, strict=True):
        info = PngInfo()
        info.add_text(METADATA_KEY, json.dumps(item, ensure_ascii=True))
        with beside(file) as partial:
            Image.fromarray(array).save(partial, "PNG", pnginfo=info)
    return files


def _open(path: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    from PIL import Image, ImageOps

    try:
        picture = Image.open(path)
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        upright.format = picture.format  # of a copy it is None
    except FileNotFoundError:
        raise AmusedError(f"No picture at {path!r}.") from None
    except Exception as error:  # damaged files make PIL's plugins raise nearly anything
        raise AmusedError(f"{path!r} cannot be read as a picture: {error}") from error
    try:
        return convert(upright)
    except AmusedError as error:
        raise AmusedError(f"{path!r} cannot be used: {error}") from error
