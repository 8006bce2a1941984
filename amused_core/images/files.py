"""Picture files of the command line: opening, and saving with the settings that made them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from torch import Tensor

from ..errors import AmusedError, one_line
from ..files.writing import beside
from .modes import grey, rgb

if TYPE_CHECKING:
    from PIL import Image

METADATA_KEY = "amused"
MAX_COMMENT = 65533  # bytes of a JPEG comment


def open_picture(path: str, file: BinaryIO | None = None) -> Image.Image:
    """A picture file, turned as its EXIF orientation says, as RGB on white; `file`: what to read in place of `path`.

    Raises:
        AmusedError: missing or not a picture.
    """
    return _open(path, rgb, file)


def open_mask(path: str, file: BinaryIO | None = None) -> Image.Image:
    """A mask file as one channel, turned as its EXIF orientation says; white = draw anew. `file`: see `open_picture`.

    Raises:
        AmusedError: missing or not a picture.
    """
    return _open(path, grey, file)


def save_pictures(images: Tensor, path: Path, about: list[dict[str, Any]]) -> list[Path]:
    """Writes float [B,H,W,3] pictures as PNG with its `about` each; several are numbered -0, -1, ....

    Raises:
        AmusedError: one cannot be written; those before it are whole.
    """
    files = [path] if len(images) == 1 else [path.with_stem(f"{path.stem}-{i}") for i in range(len(images))]
    for image, file, item in zip(images, files, about, strict=True):
        with beside(file) as partial:
            partial.write_bytes(encode_picture(image, item))
    return files


def encode_picture(image: Tensor, about: dict[str, Any], ending: str = ".png") -> bytes:
    """A picture float [H,W,3] as the content of a file that ends in `.png` or `.jpg`, `about` in its metadata."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    picture = Image.fromarray((image.clamp(0, 1) * 255).round().byte().numpy())
    text = json.dumps(about, ensure_ascii=True)
    file = io.BytesIO()
    if ending == ".jpg":
        picture.save(file, "JPEG", quality=95, subsampling=0, comment=text.encode()[:MAX_COMMENT])
    else:
        info = PngInfo()
        info.add_text(METADATA_KEY, text)
        picture.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _open(path: str, convert: Callable[[Image.Image], Image.Image], file: BinaryIO | None) -> Image.Image:
    from PIL import Image, ImageOps

    try:
        picture = Image.open(path if file is None else file)
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        upright.format = picture.format  # of a copy it is None
    except FileNotFoundError:
        raise AmusedError(f"No image at {path!r}.") from None
    except Exception as error:  # damaged files make PIL's plugins raise nearly anything
        raise AmusedError(f"{path!r} cannot be read as an image: {one_line(error)}.") from error
    try:
        return convert(upright)
    except AmusedError as error:
        raise AmusedError(f"{path!r} cannot be used: {one_line(error)}.") from error
