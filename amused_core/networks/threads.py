"""How many threads torch has in a run, and how they wait, beside what else runs on the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from threading import Event, Thread

import torch

# How long a count is believed, in seconds.
VALID = 0.2
# Elements that torch gives a thread at least.
_GRAIN = 32768
_PROC = Path("/proc")
_last: list[float] = [float("-inf"), 0]
_most: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def free_threads(large: bool = False) -> Iterator[None]:
    """Within it, torch has a thread for each core that no other process runs on, and at least one.

    Threads meet at the end of every small product, and spin while the one they wait for has no core: on two cores with
    four busy neighbours an image takes ten times as long on two threads as on one. Torch's number of threads is as
    before at the end, and on systems without Linux's `/proc` all the time.

    Args:
        large: the products take so long that waiting may cost a wake-up. If less than half of the cores are free, there
            are twice as many threads as cores then: GNU's OpenMP lets waiting threads sleep where they outnumber the
            cores, and more threads have a larger share of the machine.
    """
    before = torch.get_num_threads()
    most = _most.get() or before
    others = _others() if most > 1 else 0
    outer = _most.set(most)
    try:
        _set_threads(_number(most, others, large) if others else most)
        yield
    finally:
        _set_threads(before)
        _most.reset(outer)


@contextmanager
def fixed_threads(number: int) -> Iterator[None]:
    """Within it, torch has that many threads."""
    before = torch.get_num_threads()
    _set_threads(number)
    try:
        yield
    finally:
        _set_threads(before)


@contextmanager
def sleeping_threads() -> Iterator[None]:
    """Within it, torch's threads sleep while they wait, if other processes leave too few cores for them.

    Their number stays, since the last bits of what they compute may depend on it. GNU's OpenMP lets threads spin only
    while all that it has started are no more than the cores; so as many again are started here, which do nothing.
    """
    number, cores = torch.get_num_threads(), os.cpu_count() or 1
    if number < 2 or 2 * number - 1 <= cores or _others() <= cores - number or not _gnu_openmp():
        yield
        return
    started, over = Event(), Event()

    def hold() -> None:
        try:
            torch.empty(number * _GRAIN).fill_(0)
        finally:
            started.set()
        over.wait()

    holder = Thread(target=hold)
    holder.start()
    try:
        started.wait()
        yield
    finally:
        over.set()
        holder.join()


@contextmanager
def decoding_threads() -> Iterator[None]:
    """Within it, twice as many threads as cores, if less than half of the cores are free; otherwise `sleeping_threads`.

    Never fewer than before: that the last bits of pixels stay the same has been measured for twice as many only.
    """
    before = torch.get_num_threads()
    number = _number(before, _others(), large=True) if before > 1 else before
    with fixed_threads(number) if number > before else sleeping_threads():
        yield


def _number(most: int, others: int, large: bool) -> int:
    """Threads for a run of which `most` are allowed, beside `others`."""
    cores = os.cpu_count() or 1
    free = cores - others
    if large and most >= cores and 2 * free < cores and _gnu_openmp():
        return 2 * cores
    return max(1, min(most, free))


@cache
def _gnu_openmp() -> bool:
    """Whether torch runs on GNU's OpenMP, and no other is loaded."""
    try:
        loaded = (_PROC / "self" / "maps").read_text()
    except OSError:
        return False
    return "libgomp" in loaded and "libiomp" not in loaded and "libomp" not in loaded


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
