"""Draws one prompt with many seeds as one picture, as `python tools/seed_sheet.py "an animal" animals.png --steps 6`.

Under an image of a prompt in the set `vague`, the bar is green if it is a right answer, yellow if it mixes several.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from amused_core import load_model
from amused_core.evaluation.generation import generate_images
from amused_core.evaluation.questions import QUESTIONS
from amused_core.evaluation.sheet import save_sheet
from amused_core.evaluation.vague_task import judge_answers
from amused_core.settings.options import add_settings, settings_of


def main() -> None:
    """Seeds 0 to `--count` - 1, all settings as in `amused generate`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt")
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--model", help="diffusers folder or .safetensors file (default: the embedded model)")
    add_settings(parser)
    options = parser.parse_args()
    model = load_model(options.model)
    images = generate_images(model, [options.prompt] * options.count, settings_of(options))
    marks = None
    asked = [question for question in QUESTIONS if question.text == options.prompt]
    if asked:
        found = judge_answers(model, images.planes, images.tokens, asked * options.count)
        marks = ["right" if v else "nearest" if m else "wrong" for v, m in zip(found.valid, found.mixed, strict=True)]
    captions = [f"{options.prompt}, {seed}" for seed in range(options.count)]
    save_sheet(options.output, images.planes, captions, marks)


if __name__ == "__main__":
    main()
