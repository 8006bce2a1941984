"""Training pictures: emoji of the Noto Color Emoji font, composed on flat backgrounds.

The images of the font are under Apache-2.0, the font itself is under the SIL Open Font License 1.1.
Every picture is 128x128. A thing is scaled to 112 px and centred, always at the same place: the tokens of a picture
depend on how it lies in the grid of 8x8 pixel cells.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .things import BACKGROUNDS, THINGS

SIDE = 128
_OBJECT_SIDE = 112
_FONT_SIZE = 109  # the only bitmap size in the font
_FONT_FOLDERS = ("/usr/share/fonts/truetype/noto", "/usr/share/fonts/noto", "/usr/local/share/fonts")
_EMOJI_RANGES = ((0x2600, 0x27BF), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F7E0, 0x1F7EB), (0x1F900, 0x1FAFF))


def find_font(path: str | Path | None = None) -> Path:
    """Path of NotoColorEmoji.ttf: `path`, or the usual system folders. Raises ValueError when there is none."""
    candidates = [Path(path)] if path else [Path(folder) / "NotoColorEmoji.ttf" for folder in _FONT_FOLDERS]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ValueError(
        f"No emoji font at {', '.join(map(str, candidates))}: "
        "install it (Debian: fonts-noto-color-emoji) or pass --font."
    )


def render(glyph: str, font_path: Path, side: int = _OBJECT_SIDE) -> Tensor:
    """Draw one emoji: uint8 RGBA `[4, 128, 128]`, its longer side `side` pixels, centred.

    Raises ValueError when the font has no picture for it.
    """
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(font_path), _FONT_SIZE)
    image = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(image).text((8, 8), glyph, font=font, embedded_color=True)
    box = image.getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"The font {font_path.name} draws nothing for {glyph!r}: leave this glyph out.")
    image = image.crop(box)
    scale = side / max(image.size)
    image = image.resize([max(1, round(length * scale)) for length in image.size], Image.LANCZOS)
    canvas = Image.new("RGBA", (SIDE, SIDE))
    canvas.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1).contiguous()


def render_all(glyphs: Sequence[str], font_path: Path) -> Tensor:
    """uint8 RGBA `[N, 4, 128, 128]` of all `glyphs`; raises ValueError for a blank one and for two equal ones."""
    pictures = torch.stack([render(glyph, font_path) for glyph in glyphs])
    seen: dict[bytes, str] = {}
    for glyph, picture in zip(glyphs, pictures, strict=True):
        twin = seen.setdefault(picture.numpy().tobytes(), glyph)
        if twin != glyph:
            raise ValueError(
                f"The font draws the same picture for {twin!r} and {glyph!r}: one of them is missing in it."
            )
    return pictures


def render_broad(font_path: Path) -> Tensor:
    """uint8 RGBA `[N, 4, 128, 128]` of every emoji of one code point that the font has (about a thousand)."""
    pictures: dict[bytes, Tensor] = {}
    for first, last in _EMOJI_RANGES:
        for code in range(first, last + 1):
            try:
                picture = render(chr(code), font_path)
            except ValueError:
                continue
            if picture[:3].float().std() > 1:  # an unassigned code point may be drawn as a plain box
                pictures.setdefault(picture.numpy().tobytes(), picture)
    return torch.stack(list(pictures.values()))


def background_colours() -> Tensor:
    """float32 `[number of backgrounds, 3]` in 0..1, in the order of `BACKGROUNDS`."""
    return torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float32) / 255


def compose(rgba: Tensor, background: Tensor) -> Tensor:
    """Lay uint8 RGBA `[B, 4, H, W]` over `background` (float, `[B, 3]` or `[B, 3, H, W]`): float32 `[B, 3, H, W]`."""
    if background.ndim == 2:
        background = background[:, :, None, None]
    rgba = rgba.float() / 255
    alpha = rgba[:, 3:]
    return rgba[:, :3] * alpha + background * (1 - alpha)


def compose_all(things: Tensor) -> Tensor:
    """Every thing on every background: float32 `[T * number of backgrounds, 3, H, W]`, background runs fastest."""
    colours = background_colours()
    return compose(things.repeat_interleave(len(colours), 0), colours.repeat(len(things), 1))


def main(argv: Sequence[str] | None = None) -> None:
    """Check the font: draws the word list into one PNG and says how many glyphs were found."""
    from .grids import save_grid

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--font", help="path of NotoColorEmoji.ttf")
    parser.add_argument("--output", default="training-data.png")
    args = parser.parse_args(argv)
    font = find_font(args.font)
    things = render_all([thing.glyph for thing in THINGS], font)
    save_grid(compose_all(things), args.output, columns=4 * len(BACKGROUNDS))
    emoji = len(render_broad(font))
    print(f"{len(things)} things x {len(BACKGROUNDS)} backgrounds, {emoji} emoji for the VQ: {args.output}")


if __name__ == "__main__":
    main()
