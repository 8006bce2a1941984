"""A first look at all pictures of a job: how many, whether ids are unique, and a digest that tells jobs apart."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import AmusedError
from .pictures import Picture
from .wildcards import stable_hash

Pictures = Callable[[], Iterable[Picture]]


@dataclass(frozen=True)
class Survey:
    """What a job holds.

    Attributes:
        rows, pictures: how many; a bad row counts as one picture.
        digest: of everything that the pictures depend on.
        columns: names of the columns that pass through, in the order they appear.
    """

    rows: int
    pictures: int
    digest: str
    columns: tuple[str, ...]


def survey(pictures: Pictures) -> Survey:
    """Goes through all pictures once; 16 bytes are kept of each.

    Raises:
        AmusedError: two pictures of one id, or of one file; to some systems names that differ in case only are one.
    """
    digest = hashlib.sha256()
    columns: dict[str, None] = {}
    ids, files = array("Q"), array("Q")
    rows, last = 0, -1
    for picture in pictures():
        rows, last = rows + (picture.row != last), picture.row
        columns.update(dict.fromkeys(picture.columns))
        ids.append(stable_hash(picture.id))
        files.append(stable_hash(_file(picture)))
        digest.update(canonical(_parts(picture)))
    _refuse_repeated(ids, pictures, lambda picture: picture.id, "id")
    _refuse_repeated(files, pictures, _file, "file")
    return Survey(rows, len(ids), digest.hexdigest(), tuple(columns))


def canonical(value: Any) -> bytes:
    """JSON that is the same for equal values; what JSON does not know is written as text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, default=_plain).encode()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _parts(picture: Picture) -> list[Any]:
    return [picture.id, picture.file, picture.arguments, picture.columns, picture.error]


def _file(picture: Picture) -> str:
    # A bad row has no file.
    return picture.file.casefold() if picture.file else f"\n{picture.number}"


def _refuse_repeated(hashes: array[int], pictures: Pictures, text: Callable[[Picture], str], what: str) -> None:
    values = np.sort(np.frombuffer(hashes, np.uint64))
    repeated = set(values[1:][values[1:] == values[:-1]].tolist())
    for first, second in _pairs(pictures, text, repeated) if repeated else ():
        raise AmusedError(
            f"{first.place} and {second.place} of the rows have the same {what}: "
            f"{getattr(first, what)!r} and {getattr(second, what)!r}."
        )


def _pairs(pictures: Pictures, text: Callable[[Picture], str], repeated: set[int]) -> Iterator[tuple[Picture, Picture]]:
    seen: dict[str, Picture] = {}
    for picture in pictures():
        if stable_hash(text(picture)) in repeated:
            if (name := text(picture)) in seen:
                yield seen[name], picture
            seen[name] = picture
