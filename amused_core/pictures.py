"""Picture files of the command line: opening, and saving with the settings that made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from .errors import AmusedError

if TYPE_CHECKING:
    from PIL import Image

METADATA_KEY = "amused"


def open_picture(path: str) -> Image.Image:
    """A picture file, turned as its EXIF orientation says, as RGB on white.

    Raises:
        AmusedError: missing or not a picture.
    """
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(_open(path))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def open_mask(path: str) -> Image.Image:
    """A mask file as one channel; white = draw anew.

    Raises:
        AmusedError: missing or not a picture.
    """
    return _open(path).convert("L")


def save_pictures(images: Tensor, path: Path, about: dict[str, Any]) -> list[Path]:
    """Writes float [B,H,W,3] pictures as PNG with `about` as metadata; several get -0, -1, ... before the ending."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (images.clamp(0, 1) * 255).round().byte().numpy()
    files = [path] if len(pixels) == 1 else [path.with_stem(f"{path.stem}-{i}") for i in range(len(pixels))]
    info = PngInfo()
    info.add_text(METADATA_KEY, json.dumps(about, ensure_ascii=True))
    for array, file in zip(pixels, files, strict=True):
        Image.fromarray(array).save(file, pnginfo=info)
    return files


def save_tokens(tokens: Tensor, path: Path) -> Path:
    """Writes tokens as a NumPy file, int64 [B,h,w]."""
    if path.suffix != ".npy":
        raise AmusedError(f"--save-tokens is {str(path)!r}; it must end in .npy.")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, tokens.numpy())
    return path


def _open(path: str) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(path)
        picture.load()
    except FileNotFoundError:
        raise AmusedError(f"No picture at {path!r}.") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise AmusedError(f"{path!r} cannot be read as a picture: {error}") from error
    return picture
