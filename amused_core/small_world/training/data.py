"""The emoji of the training pictures, drawn from the Noto Color Emoji font.

The images of the font are under Apache-2.0, the font itself is under the SIL Open Font License 1.1. `main` writes the
sheet of all things that ships in `scenes/sprites.webp`; the other emoji of the font widen what the VQ-GAN knows.

python -m amused_core.small_world.training.data [--font NotoColorEmoji.ttf]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..scenes.layout import LARGE_SIDE
from ..scenes.sprites import SHEET, SHEET_COLUMNS
from ..scenes.things import THINGS

FONT_OPTION = {"help": "path of NotoColorEmoji.ttf"}
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


def render(glyph: str, font_path: Path, side: int = LARGE_SIDE) -> Tensor:
    """Draw one emoji: uint8 RGBA `[4, side, side]`, filling its longer side, centred.

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
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1).contiguous()


def render_all(glyphs: Sequence[str], font_path: Path) -> Tensor:
    """uint8 RGBA `[N, 4, side, side]` of all `glyphs`; raises ValueError for a blank one and for two equal ones."""
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
    """uint8 RGBA `[N, 4, side, side]` of every emoji of one code point that the font has (about a thousand)."""
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


def write_sheet(pictures: Tensor, path: Path = SHEET) -> None:
    """Write uint8 RGBA `[N, 4, side, side]` as one lossless picture with `SHEET_COLUMNS` columns."""
    from PIL import Image

    side = pictures.shape[-1]
    rows = -(-len(pictures) // SHEET_COLUMNS)
    sheet = Image.new("RGBA", (SHEET_COLUMNS * side, rows * side))
    for index, picture in enumerate(pictures):
        corner = (index % SHEET_COLUMNS * side, index // SHEET_COLUMNS * side)
        sheet.paste(Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy(), "RGBA"), corner)
    sheet.save(path, lossless=True, method=6)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw every thing of the word list from the font, check them, and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--font", **FONT_OPTION)
    parser.add_argument("--output", type=Path, default=SHEET)
    args = parser.parse_args(argv)
    pictures = render_all([thing.glyph for thing in THINGS], find_font(args.font))
    write_sheet(pictures, args.output)
    print(f"{len(pictures)} things: {args.output}, {args.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
