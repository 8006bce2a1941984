"""PIL pictures of any mode in 8 bits: colours of a picture, levels of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import AmusedError

if TYPE_CHECKING:
    from PIL import Image

# What white may be in modes that do not say it; the least that holds all values is taken.
WHITES = (1, 255, 65535)
# Their readers bring the modes I and I;16 to 16 bits.
SIXTEEN_BITS = ("PNG", "PPM")


def rgb(picture: Image.Image) -> Image.Image:
    """A PIL picture of any mode as RGB, transparency laid on white.

    Raises:
        AmusedError: the mode is I or F, and the values fit no range.
    """
    return _opaque(picture, "white").convert("RGB")


def grey(picture: Image.Image) -> Image.Image:
    """A PIL mask of any mode as L, transparency laid on black: a clear pixel is no stroke.

    Raises:
        AmusedError: the mode is I or F, and the values fit no range.
    """
    return _opaque(picture, "black").convert("L")


def _opaque(picture: Image.Image, background: str) -> Image.Image:
    """`picture` in 8 bits, in a mode that PIL makes RGB and L of."""
    from PIL import Image

    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = _eight_bits(picture)
    if picture.mode == "La":
        picture = picture.convert("LA")
    if not _transparent(picture):
        return picture.convert("RGB") if picture.mode == "LAB" else picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)


def _transparent(picture: Image.Image) -> bool:
    """Whether it has an alpha channel, or a colour that is transparent."""
    palette = picture.palette.mode if picture.mode == "P" and picture.palette else ""
    return picture.mode in ("LA", "PA", "RGBA", "RGBa") or palette.endswith("A") or "transparency" in picture.info


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of mode I, I;16, or F as L or LA; PIL's own conversion clips at 255."""
    from PIL import Image

    values = np.array(picture)
    bright = Image.fromarray((values * (255 / _white(picture, values)) + 0.5).astype(np.uint8))
    clear = picture.info.get("transparency")
    if clear is not None:
        bright.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return bright


def _white(picture: Image.Image, values: np.ndarray) -> int:
    """The value that stands for white."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    whites = WHITES
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in SIXTEEN_BITS):
        whites = WHITES[-1:]
    white = next((white for white in whites if 0 <= low and high <= white), None)
    if white is None:
        raise AmusedError(
            f"An image of mode {picture.mode!r} has values from {low:g} to {high:g}; allowed are 0 to "
            f"{', 0 to '.join(map(str, whites[:-1]))}{' or 0 to ' if whites[:-1] else ''}{whites[-1]}."
        )
    return white
