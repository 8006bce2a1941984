"""Pictures of Ray datasets: a predictor for `map_batches`, one model an actor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import AmusedError
from ..model import load_model
from .columns import COLUMNS
from .drawing import drawings, npy
from .engine import batches, group
from .model_backend import ModelBackend
from .pictures import Expansion, Picture, expand
from .rows import Row, make_row

Table = dict[str, np.ndarray]
Result = dict[str, Any]


class Predictor:
    """Rows to pictures for `ray.data.Dataset.map_batches`; each actor has a model of its own.

    Rows have the columns of `amused batch`, and an `id` or a `seed`: a block of Ray does not know a row's number. What
    comes back of each picture are the row's other columns, `id`, `seed` and `prompt` as they were drawn, `status` ("ok"
    or "error"), `error` (a sentence), `settings` (JSON), `png` and `npy` (the picture's and the tokens' file contents).

        data.map_batches(Predictor, fn_constructor_kwargs={"steps": 8}, concurrency=4, num_gpus=1, batch_size=64)

    Args:
        path, dtype, device, attention: see `load_model`.
        seed: of the job, for rows without one.
        batch: pictures drawn at a time; None: what memory allows.
        pictures, tokens: whether `png` and `npy` come back.
        source: names of pictures, masks and LoRAs are relative to this file or URL.
        defaults: column -> value for rows that have none.
    """

    def __init__(
        self,
        path: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        attention: str = "auto",
        *,
        seed: int = 0,
        batch: int | None = None,
        pictures: bool = True,
        tokens: bool = False,
        source: str = "",
        **defaults: Any,
    ) -> None:
        self.backend = ModelBackend(load_model(path, dtype=dtype, device=device, attention=attention), source)
        self.expansion = Expansion(seed, defaults)
        self.batch, self.pictures, self.tokens = batch, pictures, tokens

    def __call__(self, table: Mapping[str, np.ndarray]) -> Table:
        """Draws a block of rows, name -> column."""
        rows = [make_row(number, f"row {number}", columns) for number, columns in enumerate(_rows(table))]
        pictures = list(expand(map(_seedable, rows), self.expansion))
        groups, failures = group(pictures, self.backend)
        found = {picture.number: self._result(picture, error) for picture, error in failures}
        for members in batches(groups, self.batch, self.backend):
            found |= self._draw(members)
        rows_of = [picture.row for picture in pictures]
        # What was drawn with is in `settings`; a column of ours may hold anything in a bad row.
        others = {name: np.asarray(column)[rows_of] for name, column in table.items() if name not in COLUMNS}
        return {**others, **_table([found[picture.number] for picture in pictures])}

    def _draw(self, pictures: Sequence[Picture]) -> dict[int, Result]:
        try:
            drawn = self.backend.draw(pictures)
        except AmusedError as error:
            if len(pictures) == 1:
                return {pictures[0].number: self._result(pictures[0], str(error))}
            return {number: result for picture in pictures for number, result in self._draw([picture]).items()}
        images = drawn.images() if self.pictures else None
        return {
            picture.number: self._result(picture, "", drawing.about, drawing.picture, drawing.tokens)
            for picture, drawing in zip(pictures, drawings(pictures, drawn, images, ".png", self.tokens), strict=True)
        }

    def _result(
        self,
        picture: Picture,
        error: str,
        about: Mapping[str, Any] = MappingProxyType({}),
        content: bytes | None = None,
        tokens: np.ndarray | None = None,
    ) -> Result:
        result: Result = {
            "id": picture.id,
            "seed": picture.arguments.get("seed", 0),
            "prompt": str(picture.arguments.get("prompt", "")),
            "status": "error" if error else "ok",
            "error": error,
            "settings": json.dumps(dict(about), default=str),
        }
        if self.pictures:
            result["png"] = content or b""
        if self.tokens:
            result["npy"] = b"" if tokens is None else npy(tokens)
        return result


def _seedable(row: Row) -> Row:
    if row.error or "id" in row.columns or "seed" in row.columns:
        return row
    return replace(row, error="The row has neither an id nor a seed; a dataset's rows need one of them.")


def _rows(table: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Rows of plain values."""
    columns = {name: column.tolist() if hasattr(column, "tolist") else list(column) for name, column in table.items()}
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(columns, cells, strict=True))


def _table(results: Sequence[Result]) -> Table:
    """Columns of results; objects where NumPy would cut bytes at a zero or join lists to a grid."""
    names = list(dict.fromkeys(name for result in results for name in result))
    table: Table = {}
    for name in names:
        values = [result.get(name) for result in results]
        if name == "seed":
            table[name] = np.array(values, np.uint64)
        else:
            table[name] = np.empty(len(values), object)
            table[name][:] = values
    return table
