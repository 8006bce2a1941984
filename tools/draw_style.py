"""Draws docs/style.png, a picture to learn a style from: a carrot of the small model's things on white polka dots."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SIDE, DISTANCE, RADIUS = 128, 16, 5.0
BLUE, WHITE = (88, 150, 236), (255, 255, 255)


def polka_dots() -> torch.Tensor:
    """float [3,128,128] in 0..1. The dots lie two cells of 8 pixels apart, so that all have the same four tokens."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    middle = (DISTANCE - 1) / 2
    inside = (y % DISTANCE - middle).square() + (x % DISTANCE - middle).square() < RADIUS**2
    dot, ground = (torch.tensor(color)[:, None, None] / 255 for color in (WHITE, BLUE))
    return torch.where(inside, dot, ground)


def main() -> None:
    """Command line."""
    sys.path.insert(0, str(ROOT))
    from amused_core.small_world.scenes.layout import Scene
    from amused_core.small_world.scenes.sprites import cut_out, over

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--thing", default="carrot", help="one of the small model's things")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "style.png")
    arguments = parser.parse_args()
    picture = over(cut_out(Scene.single(arguments.thing, "white"))[None], polka_dots()[None])[0]
    Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).save(arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
