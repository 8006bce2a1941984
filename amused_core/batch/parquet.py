"""Pictures and results in Parquet files: a row a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..settings import VALUES
from ..settings.values import Choice, Number, Switch, Whole
from .drawing import Drawing
from .extra import pyarrow

ENDING = ".parquet"
ROWS_AT_A_TIME = 64
# The columns that hold an image and its tokens.
CONTENT = ("png", "jpg", "tokens")
# What a result says beside the sampling settings.
ABOUT = ("model", "dtype", "prompt", "negative_prompt", "seed", "seeding", "width", "height", "strength", "image",
    "mask", "keep_original", "lora")  # fmt: skip


def schema(columns: Sequence[str], head: Sequence[str], tail: Sequence[str]) -> Any:
    """The same for all files of a job: ours have types, columns that pass through are text.

    Args:
        columns: those that pass through.
        head, tail: ours around the settings.
    """
    arrow = pyarrow()
    kinds = {Number: arrow.float64(), Whole: arrow.int64(), Choice: arrow.string(), Switch: arrow.bool_()}
    pair = arrow.list_(arrow.float64())
    settings = {name: kinds.get(type(value), pair) for name, value in VALUES.items()}
    types = {
        "number": arrow.int64(),
        "row": arrow.int64(),
        "seed": arrow.uint64(),
        "width": arrow.int32(),
        "height": arrow.int32(),
        "strength": arrow.float64(),
        "seconds": arrow.float64(),
        "keep_original": arrow.bool_(),
        "lora": arrow.list_(arrow.string()),
        "png": arrow.binary(),
        "jpg": arrow.binary(),
        "tokens": arrow.list_(arrow.list_(arrow.uint32())),
        **settings,
    }
    names = [*head, *ABOUT, *settings, *tail]
    fields = [(name, types.get(name, arrow.string())) for name in names]
    return arrow.schema(fields + [(name, arrow.string()) for name in columns if name not in names])


def write(path: Path, drawings: Iterable[Drawing], columns: Sequence[str]) -> None:
    """Writes a whole file; `columns` pass through."""
    form = schema(columns, ("number", "file", "id", *CONTENT), ())
    write_rows(path, form, map(_row, drawings))


def write_rows(path: Path, form: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows, some at a time; what the schema `form` does not name is left out."""
    arrow = pyarrow()
    rows = iter(rows)
    with arrow.parquet.ParquetWriter(path, form, compression="zstd") as writer:
        while some := list(islice(rows, ROWS_AT_A_TIME)):
            writer.write_table(arrow.Table.from_pylist([_typed(row, form) for row in some], schema=form))


def read(file: BinaryIO) -> Iterator[Drawing]:
    """The drawings of a file that `write` wrote, one at a time."""
    for batch in pyarrow().parquet.ParquetFile(file).iter_batches(batch_size=ROWS_AT_A_TIME):
        for row in batch.to_pylist():
            number, name, tokens = row.pop("number"), row.pop("file"), row.pop("tokens")
            ending = ".jpg" if row["jpg"] else ".png"
            picture = row.pop("png") or row.pop("jpg")
            about = {key: value for key, value in row.items() if value is not None and key not in ("png", "jpg")}
            yield Drawing(number, name, about, picture, ending, _array(tokens))


def _row(drawing: Drawing) -> dict[str, Any]:
    tokens = None if drawing.tokens is None else drawing.tokens[0].tolist()
    ours = {"number": drawing.number, "file": drawing.file, "tokens": tokens}
    return {**drawing.about, **ours, drawing.ending[1:]: drawing.picture}


def fitting(row: dict[str, Any], form: Any) -> dict[str, Any]:
    """The values of a row that have the types of the schema `form`."""
    arrow = pyarrow()

    def fits(name: str, value: Any) -> bool:
        try:
            arrow.array([value], form.field(name).type)
        except (arrow.lib.ArrowException, OverflowError):
            return False
        return True

    return {name: value for name, value in _typed(row, form).items() if fits(name, value)}


def _typed(row: dict[str, Any], form: Any) -> dict[str, Any]:
    arrow = pyarrow()
    text = {field.name for field in form if field.type == arrow.string()}
    return {name: _text(value) if name in text else value for name, value in row.items() if name in form.names}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _array(tokens: list[list[int]] | None) -> np.ndarray | None:
    if tokens is None:
        return None
    array = np.array([tokens], np.uint32)
    return array.astype(np.uint16) if array.max(initial=0) < 2**16 else array
