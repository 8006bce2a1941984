"""Makes the pictures of docs/visit.md from the screenshots that tests/browser/ keeps."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("templates", "halfway", "result", "help", "arabic")


def main() -> None:
    """Writes docs/visit/*.jpg, 1200 pixels wide."""
    folder = ROOT / "docs" / "visit"
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        picture = Image.open(ROOT / "output" / "browser" / f"{name}.png").convert("RGB")
        size = (1200, round(1200 * picture.height / picture.width))
        picture.resize(size, Image.Resampling.LANCZOS).save(folder / f"{name}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
