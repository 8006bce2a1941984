"""Draws everything that the embedded model knows, in one picture: docs/things.jpg."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ACROSS = 10


def main() -> None:
    """One picture per thing, with the model's own settings and seed 0."""
    sys.path.insert(0, str(ROOT))
    from amused_core import load_model
    from amused_core.training.captions import canonical
    from amused_core.training.things import BACKGROUNDS, THINGS

    colours = list(BACKGROUNDS)
    prompts = [canonical(thing, colours[(i + i // ACROSS) % len(colours)]) for i, thing in enumerate(THINGS)]
    images = (load_model().generate(prompts).images * 255).round().byte().numpy()
    side = images.shape[1]
    sheet = Image.new("RGB", (ACROSS * side, -(-len(images) // ACROSS) * side), "white")
    for i, image in enumerate(images):
        sheet.paste(Image.fromarray(image), (i % ACROSS * side, i // ACROSS * side))
    sheet.save(ROOT / "docs" / "things.jpg", quality=85)


if __name__ == "__main__":
    main()
