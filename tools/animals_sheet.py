"""Draws docs/animals.jpg and docs/unmasking.jpg: "an animal" with 24 seeds, by passes, guidance and unmasking rule."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from amused_core import load_model
from amused_core.evaluation.generation import generate_images
from amused_core.evaluation.questions import QUESTIONS
from amused_core.evaluation.sheet import MARKS, to_pixels
from amused_core.evaluation.vague_task import judge_answers
from amused_core.model import AmusedModel

ROOT = Path(__file__).resolve().parents[1]
PROMPT, SEEDS = "an animal", 24
ACROSS, SIDE, GAP, TITLE = 12, 96, 4, 26
# A step with guidance is two passes.
ANIMALS: dict[str, dict[str, Any]] = {
    "6 passes, 3 guided steps": {"steps": 3, "cfg": 1.5},
    "6 passes, 6 steps without guidance": {"steps": 6, "cfg": 1.0},
    "24 passes, 12 guided steps": {"steps": 12, "cfg": 1.5},
}
UNMASKING: dict[str, dict[str, Any]] = {
    f"{passes} passes, {name}": {"steps": passes // 2 if settings["cfg"] > 1 else passes, **settings}
    for passes in (6, 12, 24)
    for name, settings in {
        "diffusers' rule, guided": {"cfg": 1.5},
        "choose-then-sample without guidance": {"cfg": 1.0, "order": "choose-then-sample"},
    }.items()
}


def main() -> None:
    """One block of pictures above the other; the bar below a picture is green where it is a right answer."""
    model = load_model()
    high = TITLE + SEEDS // ACROSS * (SIDE + 2 * GAP)
    for file, blocks in (("animals.jpg", ANIMALS), ("unmasking.jpg", UNMASKING)):
        sheet = Image.new("RGB", (ACROSS * (SIDE + GAP) + GAP, len(blocks) * high), "white")
        for number, (name, settings) in enumerate(blocks.items()):
            _draw(sheet, number * high, name, model, settings)
        sheet.save(ROOT / "docs" / file, quality=88)


def _draw(sheet: Image.Image, top: int, name: str, model: AmusedModel, settings: dict[str, Any]) -> None:
    images = generate_images(model, [PROMPT] * SEEDS, settings)
    asked = [question for question in QUESTIONS if question.text == PROMPT] * SEEDS
    found = judge_answers(model, images.planes, images.tokens, asked)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=17)
    title = f'"{PROMPT}", seeds 0 to {SEEDS - 1}, {name}: {int(found.valid.sum())} of {SEEDS} valid'
    pen.text((GAP, top + 3), title, fill="black", font=font)
    for index, (array, valid) in enumerate(zip(to_pixels(images.planes), found.valid, strict=True)):
        left = GAP + index % ACROSS * (SIDE + GAP)
        below = top + TITLE + index // ACROSS * (SIDE + 2 * GAP)
        sheet.paste(Image.fromarray(array).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, below))
        pen.rectangle(
            (left, below + SIDE, left + SIDE - 1, below + SIDE + GAP - 1), fill=MARKS["right" if valid else "wrong"]
        )


if __name__ == "__main__":
    main()
