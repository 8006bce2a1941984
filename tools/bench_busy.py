"""Seconds of an image of the embedded model, or of a real model's size, with and without four busy neighbours.

    python tools/bench_busy.py [--neighbours 4] [--images 5] [--shape 256 --steps 2]

Runs `generate` in this process: as it is, and as if nothing else ran on the machine. Wall seconds, medians; the
neighbours are loops of Python that do nothing. Start it on a quiet machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from amused_core import AmusedModel, load_model  # noqa: E402
from amused_core.bench.contenders import Pack  # noqa: E402
from amused_core.bench.weights import RandomSource  # noqa: E402
from amused_core.checkpoint import Checkpoint  # noqa: E402
from amused_core.files.markdown import table  # noqa: E402
from amused_core.networks import threads  # noqa: E402


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """`count` processes that keep a core busy."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    time.sleep(1)
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def seconds(model: AmusedModel, images: int, steps: int) -> float:
    """Median wall seconds of an image."""
    times = []
    for index in range(images):
        began = time.perf_counter()
        model.generate("a cat", seed=index, steps=steps, reuse=False)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neighbours", type=int, default=4)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--shape", choices=["256", "512"], help="random weights of amused-256's or amused-512's sizes")
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    if options.shape:
        model = Pack(Checkpoint(Path("random"), RandomSource(options.shape, 0)), torch.float32, "per_image").model
    else:
        model = load_model(device="cpu")
    seconds(model, 2, options.steps)
    rows = []
    for fixed in (False, True):
        count = threads._others
        if fixed:
            threads._others = lambda: 0
        quiet = seconds(model, options.images, options.steps)
        with neighbours(options.neighbours):
            busy = seconds(model, options.images, options.steps)
        threads._others = count
        name = f"always {torch.get_num_threads()} threads" if fixed else "by load (default)"
        rows.append({"threads": name, "quiet": f"{quiet:.2f}", "busy": f"{busy:.2f}", "ratio": f"{busy / quiet:.1f}"})
    print(table(rows))


if __name__ == "__main__":
    main()
