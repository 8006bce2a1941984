"""The plots: where the time goes, and how it grows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.figures import NO_MATPLOTLIB, make_figure, save_figure

_LABELS = {"batch": "batch size", "size": "pixels per side", "steps": "steps"}


def save_parts(path: Path, content: Mapping[str, Any]) -> str:
    """A bar for each side, made of its parts, in CPU seconds.

    Returns:
        A sentence where there is no plot because matplotlib is missing, otherwise nothing.
    """
    figure = make_figure(8, 3)
    if figure is None:
        return NO_MATPLOTLIB
    sides, steps = content["sides"], content["settings"]["steps"]
    axes = figure.subplots()
    names, left = list(sides), [0.0] * len(sides)
    counts = {"step": steps - 1, "sampler": steps}
    for part in next(iter(sides.values()))["parts"]:
        widths = [side["parts"][part][0] * counts.get(part, 1) for side in sides.values()]
        axes.barh(names, widths, left=left, label=part if part not in counts else f"{part} x{counts[part]}")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for place, side in enumerate(sides.values()):
        if "ratio" in side:
            axes.text(left[place], place, f" {side['ratio']['cpu']:.2f}x", va="center")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="CPU seconds" + (", composed" if content["settings"]["measured_steps"] < steps else ""))
    axes.set_title(content["model"]["name"])
    axes.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    save_figure(figure, path)
    return ""


def save_growth(path: Path, content: Mapping[str, Any]) -> str:
    """CPU seconds of this pack, and of diffusers where it ran, over batch, size and steps; else as `save_parts`."""
    figure = make_figure(12, 3.6)
    if figure is None:
        return NO_MATPLOTLIB
    for panel, (axis, text) in zip(figure.subplots(1, 3), _LABELS.items(), strict=True):
        points = [point for point in content["growth"]["points"] if point["axis"] == axis]
        for side in ("diffusers", "pack"):
            rows = [(point["value"], point["sides"][side]) for point in points if side in point["sides"]]
            panel.plot([value for value, _ in rows], [row["total"][0] for _, row in rows], marker="o", label=side)
        panel.set(xlabel=text, ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    figure.axes[0].set_ylabel("CPU seconds per run")
    figure.suptitle(content["model"]["name"])
    save_figure(figure, path)
    return ""
