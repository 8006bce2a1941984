"""Draws docs/icon.png and docs/banner.png: a grid of tokens, some of them still masked."""

from __future__ import annotations

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

DOCS = Path(__file__).resolve().parents[1] / "docs"
SMOOTH = 4
NIGHT, MASKED, EDGE, LETTER = "#14121f", "#201d31", "#342f4d", "#fff6e9"
SUNSET = ((255, 186, 92), (255, 98, 122), (122, 92, 255))
ICON_CELLS = 5
ICON_MASKED = {(3, 0), (1, 1), (4, 2), (2, 3), (0, 4), (3, 4)}
FONT = {
    "a": ("    ", "    ", " ## ", "   #", " ###", "#  #", " ###"),
    "M": ("#   #", "## ##", "# # #", "# # #", "#   #", "#   #", "#   #"),
    "U": ("#  #", "#  #", "#  #", "#  #", "#  #", "#  #", " ## "),
    "S": (" ###", "#   ", "#   ", " ## ", "   #", "   #", "### "),
    "E": ("####", "#   ", "#   ", "### ", "#   ", "#   ", "####"),
    "d": ("   #", "   #", " ###", "#  #", "#  #", "#  #", " ###"),
}
SPACE = 2
WORD = "aMUSEd"
BANNER_CELLS = (42, 18)


def sunset(place: float) -> tuple[int, int, int]:
    """A colour between the three of the sunset; `place` in 0..1."""
    index = min(int(place * 2), 1)
    share = place * 2 - index
    return tuple(round(a + (b - a) * share) for a, b in zip(SUNSET[index], SUNSET[index + 1], strict=True))


def dimmed(color: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    """`color` mixed with the night: 1 is all colour."""
    night = tuple(int(NIGHT[i : i + 2], 16) for i in (1, 3, 5))
    return tuple(round(n + (c - n) * share) for n, c in zip(night, color, strict=True))


class Grid:
    """A canvas of square cells, drawn several times too large and shrunk at the end."""

    def __init__(self, across: int, down: int, cell: int, border: int = 0) -> None:
        self.cell, self.border = cell * SMOOTH, border * SMOOTH
        size = (across * self.cell + 2 * self.border, down * self.cell + 2 * self.border)
        self.image = Image.new("RGB", size, NIGHT)
        self.draw = ImageDraw.Draw(self.image)

    def token(self, x: int, y: int, fill: str | tuple[int, int, int], edge: str | None = None) -> None:
        """A cell as a rounded square."""
        gap, left, top = self.cell * 0.08, self.border + x * self.cell, self.border + y * self.cell
        box = (left + gap, top + gap, left + self.cell - gap, top + self.cell - gap)
        self.draw.rounded_rectangle(box, self.cell * 0.2, fill, edge, round(self.cell * 0.035))

    def save(self, path: Path) -> None:
        """Writes the picture in its final size."""
        size = (self.image.width // SMOOTH, self.image.height // SMOOTH)
        self.image.resize(size, Image.Resampling.LANCZOS).save(path, optimize=True)


def icon() -> Grid:
    """400 x 400: a few large tokens."""
    grid = Grid(ICON_CELLS, ICON_CELLS, 72, 20)
    for y in range(ICON_CELLS):
        for x in range(ICON_CELLS):
            if (x, y) in ICON_MASKED:
                grid.token(x, y, MASKED, EDGE)
            else:
                grid.token(x, y, sunset((x + y) / (2 * ICON_CELLS - 2)))
    return grid


def letters() -> set[tuple[int, int]]:
    """Cells of the word, in the middle of the banner."""
    widths = [len(FONT[letter][0]) + SPACE for letter in WORD]
    left, top = (BANNER_CELLS[0] - sum(widths) + SPACE) // 2, (BANNER_CELLS[1] - 7) // 2
    return {
        (left + sum(widths[:place]) + column, top + row)
        for place, letter in enumerate(WORD)
        for row, line in enumerate(FONT[letter])
        for column, sign in enumerate(line)
        if sign == "#"
    }


def banner() -> Grid:
    """1260 x 540 (21:9): a run from left, where all is masked, to right, where all is decided."""
    across, down = BANNER_CELLS
    grid, chance, word = Grid(across, down, 30), random.Random(0), letters()
    for y in range(down):
        for x in range(across):
            decided = chance.random() < math.sin(x / (across - 1) * math.pi / 2) ** 2
            color = sunset(0.75 * x / (across - 1) + 0.25 * y / (down - 1))
            if (x, y) in word:
                grid.token(x, y, LETTER)
            elif decided:
                grid.token(x, y, dimmed(color, 0.5))
            else:
                grid.token(x, y, MASKED, EDGE)
    return grid


if __name__ == "__main__":
    icon().save(DOCS / "icon.png")
    banner().save(DOCS / "banner.png")
