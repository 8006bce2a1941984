"""What a campaign finds, on disk: a line of JSON for every block of cases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from traceback import walk_tb
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OURS = ("amused_core", "nodes")


@dataclass
class Fault:
    """What went wrong where, and the smallest case that shows it."""

    place: str
    error: str
    case: str


@dataclass
class Record:
    """A block of cases of one kind; `bad` of `cases` showed a fault, and `figures` are sums of what was counted."""

    kind: str
    block: int
    cases: int = 0
    bad: int = 0
    faults: list[Fault] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


class Journal:
    """The records of a campaign: appended to by each kind, and read again when it goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def __iter__(self) -> Iterator[Record]:
        for line in self.path.read_text("utf-8").splitlines() if self.path.exists() else ():
            entry = json.loads(line)
            yield Record(**{**entry, "faults": [Fault(**fault) for fault in entry["faults"]]})

    def of(self, kind: str) -> list[Record]:
        """The records of a kind."""
        return [record for record in self if record.kind == kind]

    def add(self, record: Record) -> None:
        """Appends a record."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")


def place(error: BaseException) -> str:
    """The last line of ours on the way to an error, or the last line of all."""
    lines = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    return place_of(lines)


def place_of(lines: Sequence[tuple[str, int]]) -> str:
    """The same for files and lines of a traceback."""
    ours = [(parts, line) for file, line in lines if (parts := our_parts(file)) is not None]
    if ours:
        return f"{ours[-1][0]}:{ours[-1][1]}"
    return f"{'/'.join(Path(lines[-1][0]).parts[-3:])}:{lines[-1][1]}" if lines else "?"


def our_parts(file: str) -> str | None:
    """A file of ours relative to the repository; None for those of others."""
    path = Path(file)
    with_link = path.resolve()
    if not with_link.is_relative_to(ROOT) or with_link.relative_to(ROOT).parts[0] not in OURS:
        return None
    return with_link.relative_to(ROOT).as_posix()


def shorten(value: Any, length: int = 400) -> str:
    """A text of at most `length` characters on one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= length else f"{text[: length - 4]} ..."
