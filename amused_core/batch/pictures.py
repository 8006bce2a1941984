"""From rows to the pictures to draw: defaults, grid, count, seeds, wildcards, ids and names of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..errors import AmusedError, quoted
from ..sampling.randomness import MAX_SEED
from ..settings import inputs
from .columns import COLUMNS, RESULTS, TEXTS
from .names import DEFAULT, DIGITS, Layout, Place
from .rows import Row, read_rows
from .wildcards import expand_wildcards, stable_hash

MAX_COUNT = 1_000_000


@dataclass(frozen=True)
class Picture:
    """A picture to draw; it knows nothing of the others.

    Attributes:
        number: from 0, over all pictures of the job.
        row: the row's number.
        place: where the row is, for people.
        id: unique in the job.
        file: its file without ending, unique in the job.
        arguments: what the row, the defaults and the grid say, by the names of `generate`; a `seed` always.
        columns: the row's other columns, which pass through to the results.
        error: why it cannot be drawn, as a sentence.
        sidecar: a further file (name, text) that goes with it.
    """

    number: int
    row: int
    place: str
    id: str
    file: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    sidecar: tuple[str, str] | None = None


@dataclass(frozen=True)
class Expansion:
    """How rows become pictures.

    Attributes:
        seed: of the job; a row without a seed gets one from this and its id, wherever it stands.
        defaults: column -> value for rows that have none.
        grid: column -> values; every row gets every combination.
        layout: names of files.
    """

    seed: int = 0
    defaults: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    layout: Layout = DEFAULT


def expand(rows: Iterable[Row], expansion: Expansion) -> Iterator[Picture]:
    """The pictures of a job in order, one at a time; a bad row is one picture with an error."""
    number = 0
    styles: Counter[str] = Counter()
    for row in rows:
        style = str(row.columns.get("style"))
        try:
            pictures = _of_row(row, expansion, number, styles[style])
        except AmusedError as error:
            name = str(row.columns.get("id", f"{row.number:0{DIGITS}}"))
            pictures = [Picture(number, row.number, row.place, name, columns=_others(row), error=str(error))]
        styles[style] += 1
        yield from pictures
        number += len(pictures)


def table_pictures(url: str, expansion: Expansion) -> Iterator[Picture]:
    """The pictures of a table; see `read_rows` and `expand`."""
    return expand(read_rows(url), expansion)


def _of_row(row: Row, expansion: Expansion, number: int, index: int) -> list[Picture]:
    if row.error:
        raise AmusedError(row.error)
    layout = expansion.layout
    for name in layout.columns:
        if name not in row.columns:
            raise AmusedError(f"The row has no {name!r}, which the layout {layout.name!r} needs.")
    given = {**expansion.defaults, **{name: row.columns[name] for name in COLUMNS if name in row.columns}}
    name = _id(given.pop("id", f"{row.number:0{DIGITS}}"))
    count = inputs.whole(given.pop("count", layout.count), "count", 1, MAX_COUNT)
    cells = list(product(*expansion.grid.values()))
    several = count * len(cells) > 1
    pictures = []
    for copy, (combination, turn) in enumerate(product(cells, range(count))):
        # An empty value of the grid is as if the row had none.
        chosen = {**given, **dict(zip(expansion.grid, combination, strict=True))}
        arguments = {name: value for name, value in chosen.items() if value is not None}
        seed = (_seed(arguments.pop("seed", None), expansion.seed, name) + turn) % 2**64
        if "prompt" not in arguments:
            columns = ", ".join(row.columns) or "none"
            raise AmusedError(f"The row has no prompt; its columns are {columns}.")
        for text in TEXTS:
            if isinstance(arguments.get(text), str):
                arguments[text] = expand_wildcards(arguments[text], seed)
        place = Place(row, copy, number + copy, f"{name}-{copy}" if several else name, seed, index)
        pictures.append(
            Picture(
                number=place.number,
                row=row.number,
                place=row.place,
                id=place.id,
                file=layout.file(place),
                arguments={**arguments, "seed": seed},
                columns=_others(row),
                sidecar=layout.sidecar(place),
            )
        )
    return pictures


def _id(value: Any) -> str:
    if not isinstance(value, str) and not inputs.is_whole(value):
        raise AmusedError(f"id is {quoted(value)}; allowed are texts and whole numbers.")
    return str(value)


def _seed(value: Any, job_seed: int, name: str) -> int:
    # torch uses the low 32 bits of a seed.
    return stable_hash(job_seed, name) % 2**32 if value is None else inputs.whole(value, "seed", 0, MAX_SEED)


def _others(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.columns.items() if name not in COLUMNS and name not in RESULTS}
