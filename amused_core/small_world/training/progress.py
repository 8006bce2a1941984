"""What the training loops share: options, the log (CSV and curve), the progress bar, and when to stop."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ...files.figures import make_figure, save_figure


class TrainingLog:
    """Averages the values of `every` steps into one row of a CSV file, and draws the curve.

    `columns` starts with "step" and "seconds". Rows of a resumed run after step `start` are dropped first.
    """

    def __init__(self, path: Path, columns: Sequence[str], start: int, every: int = 50) -> None:
        self.path, self.columns, self.every = path, list(columns), every
        self.values: list[Mapping[str, float]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = [row for row in self._read() if int(row[0]) <= start]
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([self.columns, *self.rows])

    def _read(self) -> list[list[str]]:
        if not self.path.exists():
            return []
        with open(self.path, newline="") as file:
            return list(csv.reader(file))[1:]

    def add(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Take the values of one step."""
        self.values.append(values)
        if step % self.every == 0:
            means = [sum(v[name] for v in self.values) / len(self.values) for name in self.columns[2:]]
            self.rows.append([str(step), f"{seconds:.1f}", *(f"{mean:.4f}" for mean in means)])
            with open(self.path, "a", newline="") as file:
                csv.writer(file).writerow(self.rows[-1])
            self.values = []

    def text(self) -> str:
        """The last row in words."""
        last = zip(self.columns, self.rows[-1] if self.rows else (), strict=False)
        return " ".join(f"{name} {value}" for name, value in last)

    def plot(self, path: Path, column: str) -> None:
        """Draw `column` over the steps as PNG, where matplotlib is installed."""
        figure = make_figure(6, 3)
        if figure is None:
            return
        axes = figure.subplots()
        index = self.columns.index(column)
        axes.plot([int(row[0]) for row in self.rows], [float(row[index]) for row in self.rows])
        axes.set(xlabel="step", ylabel=column)
        axes.grid(alpha=0.3)
        save_figure(figure, path, dpi=100)


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[float, str], None]]:
    """A tqdm bar from 0 to 100 %; yields a function `(progress, text)`."""
    from tqdm import tqdm

    with tqdm(total=1000, desc=name, bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}", mininterval=2) as bar:

        def show(progress: float, text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(min(1000, int(progress * 1000)) - bar.n)

        yield show


class ResumableTrainer(Protocol):
    """A trainer whose state can be saved: `step_count` updates in `seconds` of training time so far."""

    step_count: int
    seconds: float

    def step(self, progress: float) -> dict[str, float]:
        """One update at `progress` (0..1) of the run; returns what is logged."""


def parse_options(description: str, argv: Sequence[str] | None, minutes: float, **options: dict) -> argparse.Namespace:
    """`--run`, `--minutes`, `--steps`, `--seed` and more `options` (name -> arguments of `add_argument`)."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="folder for checkpoints, curves and grids")
    parser.add_argument("--minutes", type=float, default=minutes, help="of training time")
    parser.add_argument("--steps", type=int, help="stop after this many steps instead of --minutes")
    parser.add_argument("--seed", type=int, default=0)
    for name, settings in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    return parser.parse_args(argv)


def train(
    trainer: ResumableTrainer, log: TrainingLog, args: argparse.Namespace, save: Callable[[], None], save_every: int
) -> None:
    """Trains until `args.steps` or `args.minutes` are reached; calls `save` every `save_every` steps and at the end."""

    def progress() -> float:
        return trainer.step_count / args.steps if args.steps else trainer.seconds / (60 * args.minutes)

    with progress_bar(log.path.stem) as bar:
        while progress() < 1:
            log.add(trainer.step_count + 1, trainer.seconds, trainer.step(progress()))
            bar(progress(), log.text())
            if trainer.step_count % save_every == 0:
                save()
    save()
