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
# File systems date changes to two seconds at worst: a younger folder may change again without a new date.
SETTLED = 2 * 10**9
_logged: set[tuple[str, str]] = set()


def leave_out(path: str | Path, reason: object) -> None:
    """Logs that a path is not listed, once for each reason."""
    line = (str(path), str(reason))
    if line not in _logged:
        _logged.add(line)
        logger.warning("aMUSEd: %a is left out: %s", *line)


def scan(folder: str | Path, ending: str | tuple[str, ...] = "") -> list[os.DirEntry[str]]:
    """The entries of a folder whose names have this ending, sorted; without those that cannot be read."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((e for e in entries if e.name.lower().endswith(ending)), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        leave_out(folder, error.strerror or error)
        return []
    return [entry for entry in found if _is_readable(entry)]


def is_text(name: str) -> bool:
    """Whether ComfyUI can send a name to the browser, in UTF-8; not every name on a disk is text. Logs it if not."""
    try:
        name.encode()
    except UnicodeError:
        leave_out(name, "its name is no UTF-8")
        return False
    return True


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
        latest = max((known[0] for path, known in stamps.items() if known and os.path.isdir(path)), default=0)
        self._state = (arguments, stamps, value) if latest + SETTLED < time.time_ns() else None
        return value


def _is_readable(entry: os.DirEntry[str]) -> bool:
    try:
        entry.stat()
    except OSError as error:
        leave_out(entry.path, error.strerror or error)
        return False
    return is_text(entry.name)
