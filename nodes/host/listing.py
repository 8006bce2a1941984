"""What lies in a folder that others write to as well: what cannot be read is left out, and the log says so once."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Stamp = tuple[int, int] | None
logger = logging.getLogger(__name__)
# File systems date changes to two seconds at worst: what is younger may change again without a new date.
SETTLED = 2 * 10**9
_logged: set[tuple[str, str]] = set()


def leave_out(path: str | Path, reason: object) -> None:
    """Logs that a path is not listed, once for each reason."""
    line = (str(path), str(reason))
    if line not in _logged:
        _logged.add(line)
        logger.warning("aMUSEd: %a is left out: %s", *line)


def scan(folder: str | Path) -> list[os.DirEntry[str]]:
    """The entries of a folder by name; none where it is missing or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        leave_out(folder, error.strerror or error)
        return []
    return [entry for entry in found if _is_text(entry)]


def stamp(path: str | Path) -> Stamp:
    """Time and size, which change when a file is replaced, or a folder gets or loses an entry; None: not readable."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return None
    return stat.st_mtime_ns, stat.st_size


class Remembered(Generic[T]):
    """What was made of files and folders, until one of them changes.

    Args:
        make: called with a function that notes a path, to be called before that path is looked at.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._state: tuple[tuple[Any, ...], dict[str, Stamp], T] | None = None

    def __call__(self, *arguments: Any) -> T:
        """`make(note, *arguments)`, or what it gave last time."""
        state = self._state
        if state is not None and state[0] == arguments and all(stamp(path) == old for path, old in state[1].items()):
            return state[2]
        stamps: dict[str, Stamp] = {}
        value = self._make(lambda path: stamps.setdefault(str(path), stamp(path)), *arguments)
        latest = max((known[0] for known in stamps.values() if known), default=0)
        self._state = (arguments, stamps, value) if latest + SETTLED < time.time_ns() else None
        return value


def _is_text(entry: os.DirEntry[str]) -> bool:
    """ComfyUI sends names to the browser as UTF-8, which not every name on a disk is."""
    try:
        entry.name.encode()
    except UnicodeError:
        leave_out(entry.path, "its name is no UTF-8")
        return False
    return True
