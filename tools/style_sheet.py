"""Draws docs/style-sheet.jpg: a style picture, and four prompts without and with the LoRA that learnt it.

python tools/style_sheet.py dotted/lora.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = [f"a {thing} on a dotted background" for thing in ("apple", "fish", "star", "guitar")]
SIDE, GAP = 192, 8


def main(lora: str) -> None:
    """The model's own settings, seed 0."""
    sys.path.insert(0, str(ROOT))
    from amused_core import load_model

    model = load_model()
    rows = [model.generate(PROMPTS).images]
    model.load_lora(lora)
    rows.append(model.generate(PROMPTS).images)
    sheet = Image.new("RGB", ((SIDE + GAP) * 5 - GAP, (SIDE + GAP) * 2 - GAP), "white")
    style = Image.open(ROOT / "docs" / "style.png").convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    sheet.paste(style, (0, (sheet.height - SIDE) // 2))
    for down, images in enumerate(rows):
        for across, image in enumerate((images * 255).round().byte().numpy()):
            tile = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(tile, ((across + 1) * (SIDE + GAP), down * (SIDE + GAP)))
    sheet.save(ROOT / "docs" / "style-sheet.jpg", quality=88)


if __name__ == "__main__":
    main(sys.argv[1])
