"""How a part of a job is stored: as single files, in a tar file, or in a Parquet file."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, Protocol

from . import parquet, tar
from .drawing import Drawing, npy
from .store import Store

# Batches that are read at a time: each is an open file.
OPEN = 200
FORMATS = ("files", "webdataset", "parquet")


class Format(Protocol):
    """Stores the drawings of a part. `stage` is the name of a batch's file, `part` that of the part, both no ending."""

    def write_batch(self, store: Store, stage: str, drawings: Iterable[Drawing]) -> None:
        """Stores a batch so that it outlives the process."""

    def finish(self, store: Store, part: str, stages: Sequence[str]) -> None:
        """Puts the batches of a part together, and what is in the part already; doing it twice is no harm."""

    def file(self, part: str, name: str) -> str:
        """The file in which a drawing is found, `name` being its own."""


@dataclass(frozen=True)
class SingleFiles:
    """Every picture is a file, and so are its tokens; `ending` is that of the file that results name."""

    ending: str

    def write_batch(self, store: Store, stage: str, drawings: Iterable[Drawing]) -> None:
        """See `Format`."""
        for drawing in drawings:
            if drawing.sidecar is not None:
                name, text = drawing.sidecar
                store.write(name, text.encode())
            if drawing.tokens is not None:
                store.write(f"{drawing.file}.npy", npy(drawing.tokens))
            if drawing.picture is not None:
                store.write(f"{drawing.file}{drawing.ending}", drawing.picture)

    def finish(self, store: Store, part: str, stages: Sequence[str]) -> None:
        """Nothing is left to do."""

    def file(self, part: str, name: str) -> str:
        """See `Format`."""
        return f"{name}{self.ending}"


@dataclass(frozen=True)
class Packed:
    """All pictures of a part are in one file.

    Attributes:
        ending: of that file.
        pack: writes a file of drawings.
        unpack: reads one.
    """

    ending: str
    pack: Callable[[Path, Iterable[Drawing]], None]
    unpack: Callable[[BinaryIO], Iterator[Drawing]]

    def write_batch(self, store: Store, stage: str, drawings: Iterable[Drawing]) -> None:
        """See `Format`."""
        with store.writing(stage + self.ending) as path:
            self.pack(path, drawings)

    def finish(self, store: Store, part: str, stages: Sequence[str]) -> None:
        """See `Format`; in the order of their numbers."""
        files = [*stages, *([part] if store.exists(part + self.ending) else [])]
        if not stages:
            return
        while len(files) > OPEN:
            joined = f"{files[0]}-joined"
            self._join(store, joined, files[:OPEN])
            files = [*files[OPEN:], joined]
        self._join(store, part, files)

    def file(self, part: str, name: str) -> str:
        """See `Format`."""
        return part + self.ending

    def _join(self, store: Store, target: str, sources: Sequence[str]) -> None:
        # The sources are closed when the target, which may be one of them, is put in place.
        with store.writing(target + self.ending) as path, ExitStack() as stack:
            opened = [stack.enter_context(store.reading(name + self.ending)) for name in sources]
            merged = heapq.merge(*map(self.unpack, opened), key=attrgetter("number"))
            self.pack(path, _without_repeats(merged))


def _without_repeats(drawings: Iterable[Drawing]) -> Iterator[Drawing]:
    last = -1
    for drawing in drawings:
        if drawing.number != last:
            yield drawing
        last = drawing.number


def find_format(name: str, ending: str, columns: Sequence[str]) -> Format:
    """The format of a name in `FORMATS`; `ending` of pictures, `columns` that pass through."""
    if name == "parquet":
        return Packed(parquet.ENDING, partial(parquet.write, columns=columns), parquet.read)
    return Packed(tar.ENDING, tar.write, tar.read) if name == "webdataset" else SingleFiles(ending)
