"""What all training loops share: seeds per step, PSNR, the log (CSV and curve) and the progress bar."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Generator, Tensor


def step_generator(seed: int, step: int) -> Generator:
    """The random generator of one step. A step depends only on (seed, step), so a resumed run sees the same data."""
    generator = Generator()
    generator.manual_seed((seed * 1_000_003 + step + 1) * 2_654_435_761 % 2**63)
    return generator


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of every picture, `[B, 3, H, W]` in 0..1 -> `[B]`."""
    error = (output.clamp(0, 1) - target).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-10).log10()


class Log:
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
        return (
            " ".join(f"{name} {value}" for name, value in zip(self.columns, self.rows[-1], strict=True))
            if self.rows
            else ""
        )

    def plot(self, path: Path, column: str) -> None:
        """Draw `column` over the steps as PNG."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        index = self.columns.index(column)
        axes.plot([int(row[0]) for row in self.rows], [float(row[index]) for row in self.rows])
        axes.set_xlabel("step")
        axes.set_ylabel(column)
        axes.grid(alpha=0.3)
        figure.savefig(path, dpi=100)


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[float, str], None]]:
    """A tqdm bar from 0 to 100 %; yields a function `(progress, text)`."""
    from tqdm import tqdm

    with tqdm(total=1000, desc=name, bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}", mininterval=2) as bar:

        def show(progress: float, text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(min(1000, int(progress * 1000)) - bar.n)

        yield show
