"""Reading `.safetensors` files: the header first, tensors when they are asked for, into memory of their own.

The safetensors library maps a file into memory, and a process ends without a word (SIGBUS) when somebody overwrites a
file that it has mapped. So tensors are read here; the library maps them where that is asked for. The format:
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import CheckpointError, one_line

ENDING = ".safetensors"
# Where the header begins, after its length; and the longest one, as in the library.
START, MAX_HEADER = 8, 100_000_000
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


@dataclass(frozen=True)
class _Place:
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # in the file, bytes
    size: int


@dataclass(frozen=True)
class _Index:
    """What the header of an open file says, and the file's time, size and inode."""

    stamp: tuple[int, int, int]
    metadata: dict[str, str]
    places: dict[str, _Place]


class TensorFile:
    """A `.safetensors` file, of which only the header is read until tensors are asked for.

    Attributes:
        path: the file.
        metadata: texts by name.

    Raises:
        CheckpointError: unreadable, cut short, damaged, or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as file:
            self._index = _index(file)
        self.metadata = self._index.metadata

    def layout(self) -> dict[str, Tensor]:
        """All tensors without their values, on the meta device."""
        places = self._index.places.items()
        return {name: torch.empty(place.shape, dtype=place.dtype, device="meta") for name, place in places}

    def read(self, names: Iterable[str] | None = None, mmap: bool = False) -> dict[str, Tensor]:
        """The tensors of these names (None: all), in their stored dtype; with `mmap` as a map of the file.

        Raises:
            CheckpointError: the file has changed since it was opened, or cannot be read any more.
        """
        wanted = self._index.places if names is None else list(names)
        try:
            with self.path.open("rb") as file:
                _check_unchanged(file, self._index)
                tensors = self._mapped(wanted) if mmap else _copied(file, self._index, wanted)
                _check_unchanged(file, self._index)
        except OSError as error:
            raise CheckpointError(f"{str(self.path)!r} cannot be read: {one_line(error)}.") from error
        return tensors

    def _mapped(self, names: Iterable[str]) -> dict[str, Tensor]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as content:
                return {name: content.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise OSError(error) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a `.safetensors` file, of one version of it if it is replaced meanwhile.

    Raises:
        CheckpointError: see `TensorFile`.
    """
    with _opened(path) as file:
        index = _index(file)
        tensors = _copied(file, index, index.places)
        _check_unchanged(file, index)
    return tensors, index.metadata


def read_header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header of an open `.safetensors` file, as it is in its JSON, and where in the file the data begin.

    Raises:
        ValueError: there is none, or not all of it.
    """
    size = int.from_bytes(file.read(START), "little")
    there = os.fstat(file.fileno()).st_size
    if there < START:
        raise ValueError(f"it is not complete, it has {there} bytes")
    if not 2 <= size <= MAX_HEADER:
        raise ValueError("it does not begin with a header")
    text = file.read(size)
    if not text.startswith(b"{"):
        raise ValueError("it does not begin with a header")
    if len(text) < size:
        raise ValueError(f"it is not complete, {there:,} bytes are there and the header alone has {size:,}")
    try:
        header = json.loads(text)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header, START + size


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open; what cannot be read of it is a CheckpointError."""
    try:
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read as safetensors: {one_line(error)}.") from error


def _index(file: BinaryIO) -> _Index:
    stamp = _stamp(file)
    header, data = read_header(file)
    metadata = _metadata(header.pop("__metadata__", {}))
    places = {name: _place(name, about, data) for name, about in header.items()}
    _check_size(places, data, stamp[1])
    return _Index(stamp, metadata, places)


def _stamp(file: BinaryIO) -> tuple[int, int, int]:
    stat = os.fstat(file.fileno())
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _check_unchanged(file: BinaryIO, index: _Index) -> None:
    if _stamp(file) != index.stamp:
        raise OSError("it has changed since it was opened; load it again")


def _check_size(places: dict[str, _Place], data: int, size: int) -> None:
    """The tensors fill the file without gaps, as the format asks."""
    end = data
    for place in sorted(places.values(), key=lambda place: (place.start, place.size)):
        if place.start != end:
            raise ValueError("its tensors overlap or have gaps between them")
        end += place.size
    if end > size:
        raise ValueError(f"it is not complete, {size:,} of {end:,} bytes are there")
    if end < size:
        raise ValueError(f"it has {size:,} bytes instead of {end:,}")


def _copied(file: BinaryIO, index: _Index, names: Iterable[str]) -> dict[str, Tensor]:
    tensors = {}
    for name in sorted(names, key=lambda name: index.places[name].start):
        place = index.places[name]
        memory = torch.empty(place.size, dtype=torch.uint8)
        file.seek(place.start)
        if file.readinto(memory.numpy()) != place.size:
            raise OSError("it became shorter while it was read")
        tensors[name] = memory.view(place.dtype).view(place.shape)
    return tensors


def _metadata(entries: Any) -> dict[str, str]:
    if not isinstance(entries, dict) or not all(isinstance(text, str) for text in entries.values()):
        raise ValueError("its metadata are not texts by name")
    return entries


def _place(name: str, about: Any, data: int) -> _Place:
    """Where a tensor lies, from its entry in the header: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}."""
    try:
        dtype, shape, (start, stop) = about["dtype"], about["shape"], about["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, stop))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"its header does not describe the tensor {name!r}") from None
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"the dtype of {name!r} is {dtype!r}; allowed are {', '.join(DTYPES)}")
    if not whole or stop - start != math.prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError(f"shape and place of {name!r} do not fit each other")
    return _Place(DTYPES[dtype], tuple(shape), data + start, stop - start)
