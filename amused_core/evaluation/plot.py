"""The plot of accuracy against forward passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files.figures import NO_MATPLOTLIB, make_figure, save_figure
from .cells import label
from .questions import VAGUE

_MEASURES = (("object", "--", "o"), ("right", "-", "s"))


def save_plot(path: Path, cells: Sequence[Mapping[str, Any]]) -> str:
    """Draws `object` and the strict `right` of all text cells over the passes they took, a panel for each prompt set.

    Cells that differ in nothing but the number of steps are one line.

    Returns:
        A sentence where there is no plot because matplotlib is missing, otherwise nothing.
    """
    cells = [cell for cell in cells if cell["key"]["task"] == "text" and cell["key"]["part"] != VAGUE]
    if not cells:
        return ""
    sets = list(dict.fromkeys(cell["key"]["part"] for cell in cells))
    figure = make_figure(4.5 * len(sets) + 1, 4)
    if figure is None:
        return NO_MATPLOTLIB
    panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(_name(cell) for cell in cells))
    for panel, part in zip(panels, sets, strict=True):
        for number, name in enumerate(names):
            rows = [cell["row"] for cell in cells if cell["key"]["part"] == part and _name(cell) == name]
            rows.sort(key=lambda row: row["passes"]["value"])
            for measure, line, marker in _MEASURES:
                style = {"color": f"C{number % 10}", "linestyle": line, "marker": marker, "label": f"{name}: {measure}"}
                _add_line(panel, rows, measure, **style)
        panel.set(title=part, xlabel="forward passes per image", ylim=(-2, 102))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("% of images, 95 % intervals")
    panels[-1].legend(fontsize=6)
    save_figure(figure, path)
    return ""


def save_vague_plot(path: Path, cells: Sequence[Mapping[str, Any]]) -> str:
    """Draws the shares of valid and of mixed pictures and the coverage of all cells of `vague` over their passes.

    Cells that differ in nothing but the number of steps are one line; those that differ only in `cfg` have one colour.

    Returns:
        As `save_plot`.
    """
    cells = [cell for cell in cells if cell["key"]["task"] == "text" and cell["key"]["part"] == VAGUE]
    if not cells:
        return ""
    figure = make_figure(15, 4.5)
    if figure is None:
        return NO_MATPLOTLIB
    panels = figure.subplots(1, 3)
    colours = list(dict.fromkeys(_name(cell, "cfg") for cell in cells))
    guidances = list(dict.fromkeys(cell["key"]["settings"].get("cfg") for cell in cells))
    for name in dict.fromkeys(map(_name, cells)):
        same = [cell for cell in cells if _name(cell) == name]
        rows = sorted((cell["row"] for cell in same), key=lambda row: row["passes"]["value"])
        line = ("-", "--", ":", "-.")[guidances.index(same[0]["key"]["settings"].get("cfg")) % 4]
        colour = f"C{colours.index(_name(same[0], 'cfg')) % 10}"
        style = {"color": colour, "linestyle": line, "marker": "o", "label": name}
        for panel, measure in zip(panels, ("valid", "mixed"), strict=False):
            _add_line(panel, rows, measure, **style)
        passes = [row["passes"]["value"] for row in rows]
        panels[2].plot(passes, [row["coverage"]["value"] for row in rows], markersize=4, **style)
    perfect = [cell["row"]["coverage, perfect"]["value"] for cell in cells]
    panels[2].axhspan(min(perfect), max(perfect), color="0.8", label="perfect model")
    for panel, title in zip(panels, ("valid, %", "mixed, %", "total variation distance"), strict=True):
        panel.set(title=title, xlabel="forward passes per image")
        panel.grid(alpha=0.3)
    panels[2].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    save_figure(figure, path)
    return ""


def _add_line(panel: Any, rows: list[Mapping[str, Any]], measure: str, **style: Any) -> None:
    if not rows:
        return
    passes = [row["passes"]["value"] for row in rows]
    values, lows, highs = ([100 * row[measure][name] for row in rows] for name in ("value", "low", "high"))
    below = [max(0.0, value - low) for value, low in zip(values, lows, strict=True)]
    above = [max(0.0, high - value) for value, high in zip(values, highs, strict=True)]
    panel.errorbar(passes, values, [below, above], markersize=4, capsize=2, **style)


def _name(cell: Mapping[str, Any], *without: str) -> str:
    left_out = ("steps", *without)
    return label({name: value for name, value in cell["key"]["settings"].items() if name not in left_out})
