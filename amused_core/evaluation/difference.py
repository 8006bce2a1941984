"""Differences between cells of `vague`, which share prompts and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .cells import label
from .metrics import Number, bootstrap
from .questions import VAGUE

Cell = Mapping[str, Any]


def comparable(cells: Sequence[Cell]) -> list[Cell]:
    """The text cells of `vague`."""
    return [cell for cell in cells if cell["key"]["task"] == "text" and cell["key"]["part"] == VAGUE]


def baseline(cells: Sequence[Cell]) -> Cell | None:
    """The cell that others are compared with: of those in diffusers' order, `confidence`, the one with most passes;
    with guidance where several have as many."""
    usual = [cell for cell in comparable(cells) if cell["full_settings"].get("order") == "confidence"]
    return max(
        usual, key=lambda cell: (cell["row"]["passes"]["value"], cell["full_settings"].get("cfg", 0)), default=None
    )


def difference(cell: Cell, other: Cell) -> Number:
    """The share of valid images of `cell` minus that of `other`, -1 to 1, with a paired 95 % bootstrap interval."""
    pairs = zip(cell["pictures"], other["pictures"], strict=True)
    return bootstrap(torch.tensor([float(one["valid"]) - float(two["valid"]) for one, two in pairs]), "%", "mean")


def differences(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Settings, passes, `valid` and `difference` from the baseline of each comparable cell, most valid first; none
    where there is nothing to compare."""
    first, others = baseline(cells), comparable(cells)
    if first is None or len(others) < 2:
        return []
    return [
        {
            "settings": label(cell["key"]["settings"]),
            "passes": cell["row"]["passes"],
            "valid": cell["row"]["valid"],
            f"valid, minus that of {label(first['key']['settings'])}": difference(cell, first),
        }
        for cell in sorted(others, key=lambda cell: -cell["row"]["valid"]["value"])
    ]
