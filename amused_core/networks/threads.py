"""As many threads as there are free cores, for the passes of a run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch

# How long a count is believed, in seconds.
VALID = 0.2
_PROC = Path("/proc")
_last: list[float] = [float("-inf"), 0]
_most: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def free_threads() -> Iterator[None]:
    """Within it, torch has a thread for each core that no other process runs on, and at least one.

    Threads meet at the end of every small product, and spin while the one they wait for has no core: on two cores with
    four busy neighbours an image takes ten times as long on two threads as on one. Torch's number of threads is as
    before at the end, and on systems without Linux's `/proc` all the time.
    """
    before = torch.get_num_threads()
    most = _most.get() or before
    others = _others() if most > 1 else 0
    threads = max(1, min(most, (os.cpu_count() or 1) - others)) if others else most
    outer = _most.set(most)
    try:
        _set_threads(threads)
        yield
    finally:
        _set_threads(before)
        _most.reset(outer)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, torch has one thread."""
    before = torch.get_num_threads()
    _set_threads(1)
    try:
        yield
    finally:
        _set_threads(before)


def _set_threads(number: int) -> None:
    if number != torch.get_num_threads():
        torch.set_num_threads(number)


def _others() -> int:
    """Threads of other processes that run or wait for a core now; counted again after `VALID` seconds."""
    now = time.monotonic()
    if now - _last[0] > VALID:
        _last[:] = now, _running() - _own_running()
    return max(0, int(_last[1]))


def _running() -> int:
    """Threads of this machine that run or wait for a core; 0 where the system does not say."""
    try:
        return int((_PROC / "loadavg").read_text().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return 0


def _own_running() -> int:
    """The same of this process: torch's own threads spin for a moment after each product."""
    running = 0
    for task in (_PROC / "self" / "task").glob("*"):
        try:
            # After the name, which may hold spaces and brackets.
            running += (task / "stat").read_text().rpartition(")")[2].split()[0] == "R"
        except (OSError, IndexError):  # It has ended meanwhile.
            continue
    return running
