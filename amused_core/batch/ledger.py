"""What is done of a job, kept in its folder: the manifest, and a record a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import AmusedError
from .store import Store, split

FOLDER = ".job"
MANIFEST = "job.json"
# What may differ between runs of one job.
LOOSE = ("fingerprint", "source")
# The tables that `tables.publish` writes.
TABLES = re.compile(r"(results|errors)(-\d+-of-\d+)?\.(jsonl|parquet)")
BATCH, ERRORS, KEPT = "batch-", "errors-", "kept"
Record = dict[str, Any]


class Ledger:
    """The records of a job.

    `.job/part-00007/batch-0000448.jsonl` is a batch that is drawn and stored; `.job/part-00007.jsonl` a part that is
    finished, its batches put together. Both appear whole, after what they speak of.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def manifest(self) -> dict[str, Any] | None:
        """What the job in this folder is, or None."""
        if not self.store.exists(MANIFEST):
            return None
        with self.store.reading(MANIFEST) as file:
            try:
                content = json.load(file)
            except ValueError as error:
                raise AmusedError(
                    f"{MANIFEST} in {self.store.url!r} is damaged: {error}; --overwrite begins anew."
                ) from error
        return content if isinstance(content, dict) else {}

    def check(self, manifest: dict[str, Any], overwrite: bool) -> bool:
        """Whether the folder is this job's already.

        Raises:
            AmusedError: it is another's, and `overwrite` is not set.
        """
        there = self._readable_manifest() if overwrite else self.manifest()
        if there is not None and there.get("fingerprint") == manifest["fingerprint"]:
            return True
        if there is None and not self._any_file():
            return False
        if not overwrite:
            names = [name for name in manifest if name not in LOOSE and (there or {}).get(name) != manifest[name]]
            which = f"another job: its {' and '.join(names)} differ" if there else f"images of a job without {MANIFEST}"
            raise AmusedError(
                f"{self.store.url!r} holds {which}; take another folder, or --overwrite to remove what that job drew."
            )
        return False

    def begin(self, manifest: dict[str, Any], overwrite: bool, busy: bool = False) -> None:
        """Makes the folder this job's; what another job drew is removed with `overwrite`.

        Args:
            manifest: of this job.
            overwrite: see `check`.
            busy: another process is at work in the folder.

        Raises:
            AmusedError: see `check`; or there is something to remove while the folder is `busy`.
        """
        if self.check(manifest, overwrite):
            return
        if self.part_numbers() or self.store.exists(MANIFEST):
            if busy:
                raise AmusedError(f"Another process is drawing another job into {self.store.url!r}; wait for it.")
            self._clear()
        self.store.write(MANIFEST, (json.dumps(manifest, indent=1, default=str) + "\n").encode())

    def _readable_manifest(self) -> dict[str, Any] | None:
        """The manifest; None, too, where it is damaged."""
        try:
            return self.manifest()
        except AmusedError:
            return None

    def _any_file(self) -> bool:
        """Whether any file is there that a record names."""
        names = (record.get("file") for part in self.part_numbers() for record in self.records(part))
        return any(self.store.exists(name) for name in names if name)

    def _clear(self) -> None:
        """Removes what a job wrote, and nothing else."""
        output = (self._readable_manifest() or {}).get("output", {})
        tokens = output.get("format") == "files" and output.get("tokens") != "no"
        for part in self.part_numbers():
            for name in {record.get("file") for record in self.records(part)} - {None}:
                self.store.remove(name)
                if tokens:
                    self.store.remove(f"{name.rpartition('.')[0]}.npy")
        for name in self.store.names():
            if TABLES.fullmatch(name):
                self.store.remove(name)
        self.store.remove(MANIFEST)
        for name in self.store.names(FOLDER):
            if not name.startswith("lock"):
                self.store.remove(f"{FOLDER}/{name}")

    def part_numbers(self) -> list[int]:
        """The parts of which anything is done."""
        names = {name.partition(".")[0] for name in self.store.names(FOLDER) if name.startswith("part-")}
        return sorted(int(name.removeprefix("part-")) for name in names)

    def is_finished(self, part: int) -> bool:
        """Whether the part is."""
        return self.store.exists(f"{FOLDER}/{part_name(part)}.jsonl")

    def records(self, part: int) -> list[Record]:
        """The records of a part so far, in the order of their numbers; the last one of a number counts."""
        name = f"{FOLDER}/{part_name(part)}"
        files = [f"{name}.jsonl"] if self.is_finished(part) else [f"{name}/{file}.jsonl" for file in self.batches(part)]
        found = {record["number"]: record for file in files for record in self._read(file)}
        return [found[number] for number in sorted(found)]

    def batches(self, part: int) -> list[str]:
        """Names of the batches of a part that are stored."""
        names = self.store.names(f"{FOLDER}/{part_name(part)}")
        return [name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl")]

    def add_batch(self, part: int, batch: str, records: Iterable[Record]) -> None:
        """Says that a batch is stored."""
        write_lines(self.store, f"{FOLDER}/{part_name(part)}/{batch}.jsonl", records)

    def finish(self, part: int) -> None:
        """Says that all batches of a part are put together."""
        write_lines(self.store, f"{FOLDER}/{part_name(part)}.jsonl", self.records(part))
        self.clean(part)

    def clean(self, part: int) -> None:
        """Removes the batches of a part that is finished."""
        self.store.remove(f"{FOLDER}/{part_name(part)}")

    def reopen(self, part: int, keep: Iterable[Record]) -> None:
        """Forgets the errors of a part; `keep` are its other records."""
        if not self.is_finished(part):
            for name in self.batches(part):
                if name.startswith(ERRORS):
                    self.store.remove(f"{FOLDER}/{part_name(part)}/{name}.jsonl")
            return
        self.clean(part)
        self.add_batch(part, KEPT, keep)
        self.store.remove(f"{FOLDER}/{part_name(part)}.jsonl")

    def _read(self, name: str) -> Iterator[Record]:
        with self.store.reading(name) as file:
            yield from map(json.loads, file)


def part_name(part: int) -> str:
    """A part's name, of its file too."""
    return f"part-{part:05}"


def write_lines(store: Store, name: str, records: Iterable[Record]) -> None:
    """Writes a whole file of JSON lines."""
    with store.writing(name) as path, path.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")


def is_table(rows: str, out: str) -> bool:
    """Whether the file `rows` is one of the tables that the job in the folder `out` writes."""
    folder, name = split(rows)
    return folder == out.rstrip("/") and TABLES.fullmatch(name) is not None


def origin(rows: str) -> str:
    """The file that names in a table are relative to: itself, or where it is a job's results, what that job read."""
    folder = split(rows)[0]
    if not is_table(rows, folder):
        return rows
    return (Ledger(Store(folder)).manifest() or {}).get("source") or rows
