"""The plot of accuracy against forward passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .cells import label

_MEASURES = (("object", "--", "o"), ("right", "-", "s"))


def save_plot(path: Path, cells: Sequence[Mapping[str, Any]]) -> str:
    """Draws `object` and the strict `right` of all text cells over the passes they took, a panel for each prompt set.

    Cells that differ in nothing but the number of steps are one line.

    Returns:
        A sentence where there is no plot because matplotlib is missing, otherwise nothing.
    """
    cells = [cell for cell in cells if cell["key"]["task"] == "text"]
    if not cells:
        return ""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return 'No plot: it needs matplotlib, which comes with `pip install "amused-image[train]"`.'
    sets = list(dict.fromkeys(cell["key"]["part"] for cell in cells))
    figure = Figure(figsize=(4.5 * len(sets) + 1, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(_name(cell) for cell in cells))
    for panel, part in zip(panels, sets, strict=True):
        for number, name in enumerate(names):
            rows = [cell["row"] for cell in cells if cell["key"]["part"] == part and _name(cell) == name]
            rows.sort(key=lambda row: row["passes"]["value"])
            for measure, style, marker in _MEASURES:
                _draw(panel, rows, measure, f"C{number % 10}", style, marker, f"{name}: {measure}")
        panel.set(title=part, xlabel="forward passes a picture", ylim=(-2, 102))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("% of pictures, 95 % intervals")
    panels[-1].legend(fontsize=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return ""


def _draw(
    panel: Any, rows: list[Mapping[str, Any]], measure: str, colour: str, style: str, marker: str, text: str
) -> None:
    if not rows:
        return
    passes = [row["passes"]["value"] for row in rows]
    values = [100 * row[measure]["value"] for row in rows]
    reach = [
        [max(0.0, 100 * (row[measure]["value"] - row[measure]["low"])) for row in rows],
        [max(0.0, 100 * (row[measure]["high"] - row[measure]["value"])) for row in rows],
    ]
    panel.errorbar(
        passes, values, reach, color=colour, linestyle=style, marker=marker, markersize=4, capsize=2, label=text
    )


def _name(cell: Mapping[str, Any]) -> str:
    return label({name: value for name, value in cell["key"]["settings"].items() if name != "steps"})
