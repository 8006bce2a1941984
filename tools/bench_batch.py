"""CPU seconds of a batch job beside a loop of `generate` and diffusers' pipeline, on the same rows in turns.

python tools/bench_batch.py --rows 500
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from amused_core import load_model  # noqa: E402
from amused_core.batch.engine import run  # noqa: E402
from amused_core.batch.job import Job  # noqa: E402
from amused_core.batch.model_backend import ModelBackend  # noqa: E402
from amused_core.batch.pictures import Expansion, expand  # noqa: E402
from amused_core.batch.rows import Row  # noqa: E402
from amused_core.images.files import save_pictures  # noqa: E402

THINGS = ("apple", "cat", "dog", "boat", "banana", "house", "tree", "key", "crown", "bus")
SIDES = {
    "batch": "amused batch",
    "fast": "--set fast=true",
    "fast-int8": "--set fast=true int8=true",
    "loop": "a loop of generate",
    "diffusers": "diffusers, a row at a time",
}
COLOURS = ("red", "blue", "yellow", "green", "purple", "white", "pink", "orange", "grey", "brown")


def main() -> None:
    """Prints CPU seconds and pictures a CPU second of each side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--turn", type=int, default=32, help="rows that a side draws before the next one's turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prompts = [f"a {THINGS[n % 10]} on a {COLOURS[n // 10 % 10]} background" for n in range(options.rows)]
    with tempfile.TemporaryDirectory() as folder:
        made = make_sides(Path(folder))
        sides = {SIDES[name]: made[name] for name in options.sides}
        spent = dict.fromkeys(sides, 0.0)
        for work in sides.values():
            work(-1, prompts[:2])
        for first in range(0, options.rows, options.turn):
            for name, work in sides.items():
                began = time.process_time()
                work(first, prompts[first : first + options.turn])
                spent[name] += time.process_time() - began
            show(spent, min(first + options.turn, options.rows))


def show(spent: dict[str, float], rows: int) -> None:
    """Prints what each side has spent so far."""
    least = next(iter(spent.values()))
    for name, seconds in spent.items():
        print(
            f"{rows:4} rows  {name:28} {seconds:7.1f} CPU s  {rows / seconds:6.2f} a CPU s  {seconds / least:.2f}x",
            flush=True,
        )


def make_sides(folder: Path) -> dict[str, Callable[[int, list[str]], None]]:
    """What draws and saves rows from number `first` on, by name."""
    from diffusers import AmusedPipeline

    model, backend = load_model(), ModelBackend(load_model())
    pipe = AmusedPipeline.from_pretrained(Path(__file__).resolve().parents[1] / "amused_core" / "embedded")
    pipe.set_progress_bar_config(disable=True)
    best = model.checkpoint.recommended
    size = {"width": best.width, "height": best.height}

    def batch(first: int, prompts: list[str], **settings: bool) -> None:
        rows = [Row(n, "", {"prompt": prompt, "seed": first + 1 + n}) for n, prompt in enumerate(prompts)]
        pictures = partial(expand, rows, Expansion(defaults=settings))
        run(Job(pictures, str(folder / f"batch{first}{settings}"), {}), backend)

    def loop(first: int, prompts: list[str]) -> None:
        for number, prompt in enumerate(prompts, first + 1):
            result = model.generate(prompt, seed=number)
            save_pictures(result.images, folder / f"loop{number}.png", result.settings)

    def diffusers(first: int, prompts: list[str]) -> None:
        for number, prompt in enumerate(prompts, first + 1):
            generator = torch.Generator().manual_seed(number)
            found = pipe(prompt, num_inference_steps=12, guidance_scale=best.cfg, generator=generator, **size)
            found.images[0].save(folder / f"diffusers{number}.png")

    fast = {"fast": partial(batch, fast=True), "fast-int8": partial(batch, fast=True, int8=True)}
    return {"batch": batch, **fast, "loop": loop, "diffusers": diffusers}


if __name__ == "__main__":
    main()
