"""Figures by matplotlib, which is optional, and written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .writing import beside

NO_MATPLOTLIB = 'No plot: it needs matplotlib, which comes with `pip install "amused-image[train]"`.'


def make_figure(width: float, height: float) -> Any:
    """An empty matplotlib `Figure` (inches) without a window; None where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path, dpi: int = 110) -> None:
    """Writes a figure as a PNG. Raises `AmusedError` as `beside` does."""
    with beside(path) as partial:
        figure.savefig(partial, dpi=dpi, format="png")
