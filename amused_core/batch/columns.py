"""The columns of a batch job's table that mean something, and what a cell of them says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import AmusedError
from ..settings import VALUES
from ..settings.values import parse_flag, parse_number, parse_whole


def _text(text: str) -> str:
    return text


# What `generate` takes, beside the fields of `SamplingSettings`.
ARGUMENTS: dict[str, Callable[[str], Any]] = {
    "prompt": _text,
    "negative_prompt": _text,
    "image": _text,
    "mask": _text,
    "strength": parse_number,
    "width": parse_whole,
    "height": parse_whole,
    "keep_original": parse_flag,
    "fast": parse_flag,
    "lora": _text,
    **{name: value.parse for name, value in VALUES.items()},
}
# Those that may be empty.
TEXTS = ("prompt", "negative_prompt")
# What the job itself reads.
COLUMNS: dict[str, Callable[[str], Any]] = {"id": _text, "seed": parse_whole, "count": parse_whole, **ARGUMENTS}
# What the job writes about a picture; a table may be the results of another job.
RESULTS = ("number", "row", "file", "status", "error", "seconds", "place", "model", "dtype", "seeding")


def cell(name: str, value: Any) -> Any:
    """A cell of column `name` as the type that the column has, `plain` where it says none; None: nothing is given."""
    if isinstance(value, str):
        if not value and name in COLUMNS and name not in TEXTS:
            return None
        return COLUMNS[name](value) if name in COLUMNS else value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        # Tables write whole numbers as fractions where a column has gaps.
        return int(value) if COLUMNS.get(name) is parse_whole and value.is_integer() else value
    return value if name in COLUMNS else plain(value)


def plain(value: Any) -> Any:
    """A value that JSON knows; others, such as the dates of a Parquet file, as text, and bytes as their number."""
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def assignments(items: Iterable[str], option: str) -> dict[str, str]:
    """["steps=8", ...] as names and texts.

    Raises:
        AmusedError: no "=", an unknown column, or one given twice.
    """
    found: dict[str, str] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals:
            raise AmusedError(f"{option} has {item!r}; allowed is NAME=VALUE, such as steps=8.")
        if name not in COLUMNS or name == "id":
            known = ", ".join(column for column in COLUMNS if column != "id")
            raise AmusedError(f"{option} names the column {name!r}; allowed are {known}.")
        if name in found:
            raise AmusedError(f"{option} gives {name!r} twice.")
        found[name] = text
    return found


def defaults(items: Iterable[str]) -> dict[str, Any]:
    """What `--set` says: the value of a column in rows that have none."""
    values = {name: cell(name, text) for name, text in assignments(items, "--set").items()}
    return {name: value for name, value in values.items() if value is not None}


def grid(items: Iterable[str]) -> dict[str, list[Any]]:
    """What `--grid` says: the values of each column, of which every row gets every combination.

    Raises:
        AmusedError: see `assignments`; or the column is `count`, which says how many such rows there are.
    """
    named = assignments(items, "--grid")
    if "count" in named:
        raise AmusedError(f"--grid has count={named['count']}; allowed is --set count=N, images of each combination.")
    return {name: [cell(name, part.strip()) for part in text.split(",")] for name, text in named.items()}
