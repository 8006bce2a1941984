"""Makes the pictures of docs/visit.md from the screenshots that tests/browser/ keeps."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
# Names in docs/visit/ and those of the tests' screenshots.
NAMES = {
    "templates": "templates",
    "halfway": "canvas_halfway",
    "result": "nodes_2_result",
    "help": "help",
    "arabic": "arabic",
}


def main() -> None:
    """Writes docs/visit/*.jpg, 1200 pixels wide."""
    folder = ROOT / "docs" / "visit"
    folder.mkdir(exist_ok=True)
    for name, screenshot in NAMES.items():
        picture = Image.open(ROOT / "output" / "browser" / f"{screenshot}.png").convert("RGB")
        size = (1200, round(1200 * picture.height / picture.width))
        picture.resize(size, Image.Resampling.LANCZOS).save(folder / f"{name}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
