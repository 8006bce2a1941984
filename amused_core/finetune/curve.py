"""The loss of every step as a CSV file and as a picture."""

from __future__ import annotations

from pathlib import Path

from ..files.figures import make_figure, save_figure
from ..files.writing import write_text

WINDOW = 25


def smoothed(losses: list[float], window: int = WINDOW) -> list[float]:
    """The mean of each step and up to `window - 1` before it."""
    means, total = [], 0.0
    for index, loss in enumerate(losses):
        total += loss - (losses[index - window] if index >= window else 0.0)
        means.append(total / min(index + 1, window))
    return means


def write_curve(folder: Path, losses: list[float]) -> None:
    """Writes `loss.csv`, and `loss.png` where matplotlib is installed."""
    rows = "".join(f"{step},{loss:.6f}\n" for step, loss in enumerate(losses, 1))
    write_text(folder / "loss.csv", "step,loss\n" + rows)
    figure = make_figure(6, 3)
    if figure is None:
        return
    axes = figure.subplots()
    steps = range(1, len(losses) + 1)
    axes.plot(steps, losses, color="#bbbbbb", linewidth=0.8)
    axes.plot(steps, smoothed(losses), label=f"mean of {WINDOW} steps")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    axes.grid(alpha=0.3)
    save_figure(figure, folder / "loss.png", dpi=100)
