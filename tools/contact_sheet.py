"""Draws everything that the embedded model knows, in one picture: docs/things.jpg."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ACROSS, SIDE = 16, 96


def main() -> None:
    """One picture per thing, with the model's own settings and seed 0; every background in turn."""
    sys.path.insert(0, str(ROOT))
    from amused_core import load_model
    from amused_core.small_world.scenes.captions import plain_caption
    from amused_core.small_world.scenes.layout import Scene
    from amused_core.small_world.scenes.things import BACKGROUNDS, THINGS

    colours = list(BACKGROUNDS)
    scenes = [Scene.single(thing.name, colours[(i + i // ACROSS) % len(colours)]) for i, thing in enumerate(THINGS)]
    model, images = load_model(), []
    for start in range(0, len(scenes), ACROSS):
        drawn = model.generate([plain_caption(scene) for scene in scenes[start : start + ACROSS]])
        images += list((drawn.images * 255).round().byte().numpy())
    sheet = Image.new("RGB", (ACROSS * SIDE, -(-len(images) // ACROSS) * SIDE), "white")
    for i, image in enumerate(images):
        tile = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (i % ACROSS * SIDE, i // ACROSS * SIDE))
    sheet.save(ROOT / "docs" / "things.jpg", quality=85)


if __name__ == "__main__":
    main()
