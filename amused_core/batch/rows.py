"""Rows of a table, one at a time: JSON lines, CSV, TSV, Parquet, or a text file with a prompt a line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, BinaryIO

from ..errors import AmusedError, one_line, quoted
from .columns import cell
from .store import open_url

# Lone surrogates stand for bytes that are not UTF-8, so that one bad line does not end a job.
BAD_BYTES = "surrogateescape"


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        number: from 0, bad rows included.
        place: where it is, for people: "line 7".
        columns: name -> cell, without empty ones.
        error: why the row is bad, as a sentence.
    """

    number: int
    place: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def read_rows(url: str) -> Iterator[Row]:
    """The rows of a file or fsspec URL, read while they are needed; bad rows have an `error`.

    Raises:
        AmusedError: no such file, or one that is none of the kinds.
    """
    ending = url.rpartition(".")[2].lower()
    if ending not in READERS:
        allowed = ", ".join(f".{name}" for name in READERS)
        raise AmusedError(f"The rows are {url!r}; allowed are files that end in {allowed}.")
    with open_url(url) as file:
        try:
            for number, (place, columns, error) in enumerate(READERS[ending](file)):
                yield make_row(number, place, columns, error)
        except OSError as error:
            raise AmusedError(f"{url!r} cannot be read: {one_line(error)}.") from error


def text_rows(text: str) -> Iterator[Row]:
    """The rows of a text with a prompt a line."""
    for number, (place, columns, error) in enumerate(_prompts(io.BytesIO(text.encode("utf-8", "replace")))):
        yield make_row(number, place, columns, error)


Found = tuple[str, dict[str, Any], str | None]


def make_row(number: int, place: str, columns: Mapping[str, Any], error: str | None = None) -> Row:
    """A row of cells as a table has them: each gets its column's type, empty ones are left out."""
    cells = {name: value for name, item in columns.items() if (value := cell(name, item)) is not None}
    bad = [text for text in _texts(cells) if not _is_unicode(text)]
    return Row(number, place, cells, error or (f"The row holds {quoted(bad[0])}, which is not UTF-8." if bad else None))


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(file: BinaryIO) -> io.TextIOWrapper:
    """Text in UTF-8 with or without a byte order mark, or in UTF-16 with one, as spreadsheets write it."""
    start = file.read(2)
    file.seek(0)
    encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return io.TextIOWrapper(file, encoding, BAD_BYTES if encoding == "utf-8-sig" else "replace", newline="")


def _prompts(file: BinaryIO) -> Iterator[Found]:
    for number, line in enumerate(_lines(file), 1):
        if prompt := line.strip():
            yield f"line {number}", {"prompt": prompt}, None


def _json_lines(file: BinaryIO) -> Iterator[Found]:
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            columns = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", {}, f"The line is not JSON: {error}."
            continue
        if isinstance(columns, dict):
            yield f"line {number}", columns, None
        else:
            yield f"line {number}", {}, f"The line is a JSON {type(columns).__name__}; it must be an object."


def _table(file: BinaryIO, delimiter: str) -> Iterator[Found]:
    lines = csv.reader(_lines(file), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    while True:
        place = f"line {lines.line_num + 1}"
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            if names is None:
                raise AmusedError(f"The first line of the table cannot be read: {error}.") from error
            yield place, {}, f"The row cannot be read: {error}."
            continue
        if not any(cells):
            continue
        if names is None:
            names = _names(cells)
        elif any(text for name, text in zip_longest(names, cells, fillvalue="") if not name):
            named = sum(map(bool, names))
            yield place, {}, f"The row has {len(cells)} cells but the table has {named} columns."
        else:
            # An empty cell gives nothing.
            yield place, {name: text for name, text in zip(names, cells, strict=False) if text}, None


def _names(cells: list[str]) -> list[str]:
    """A spreadsheet's empty columns have no name."""
    names = [text.strip() for text in cells]
    for name in filter(None, names):
        if names.count(name) > 1:
            raise AmusedError(f"The table has two columns named {name!r}.")
    return names


def _parquet(file: BinaryIO) -> Iterator[Found]:
    from .extra import pyarrow

    arrow = pyarrow()
    try:
        table = arrow.parquet.ParquetFile(file)
        first = 0
        for batch in table.iter_batches(batch_size=1000):
            for place, columns in enumerate(batch.to_pylist(), first):
                yield f"row {place}", columns, None
            first += len(batch)
    except arrow.lib.ArrowException as error:
        raise AmusedError(f"The rows cannot be read as Parquet: {one_line(error)}.") from error


READERS: dict[str, Callable[[BinaryIO], Iterator[Found]]] = {
    "jsonl": _json_lines,
    "csv": lambda file: _table(file, ","),
    "tsv": lambda file: _table(file, "\t"),
    "parquet": _parquet,
    "txt": _prompts,
}
