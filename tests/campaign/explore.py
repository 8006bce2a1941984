"""Hypothesis draws cases and shrinks those that fail; a case is limited in time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis.strategies import SearchStrategy

from amused_core import AmusedError
from amused_core.errors import quoted
from tests.campaign.records import Fault, Record, place, shorten

SECONDS = 20
MAX_SENTENCE = 900


class _OutOfTime(BaseException):
    """No `except Exception` on the way takes it for an error of its own."""


@contextmanager
def time_limit(seconds: int = SECONDS) -> Iterator[None]:
    """Raises TimeoutError in what computes for longer, however busy the machine is; for the main thread."""

    def stop(*_: Any) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except _OutOfTime as late:
        raise TimeoutError(f"more than {seconds} s").with_traceback(late.__traceback__) from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def refusal(call: Callable[[], Any]) -> str | None:
    """What a refused call says, after a look at its form; None where it is not refused. Other errors pass."""
    try:
        with time_limit():
            call()
    except AmusedError as error:
        text = str(error)
        if "\n" in text or len(text) > MAX_SENTENCE or not text.endswith("."):
            raise AssertionError(f"no sentence: {text}").with_traceback(error.__traceback__) from None
        return text
    return None


def explore(
    record: Record,
    cases: SearchStrategy[Any],
    check: Callable[[Any], None],
    count: int,
    seed: int,
    known: set[str],
    describe: Callable[[Any], str] = quoted,
) -> None:
    """Checks `count` cases; notes in `record` the minimal case for each new place, and adds those places to `known`."""
    smallest: dict[str, Fault] = {}
    left = count

    def run(case: Any) -> None:
        nonlocal left
        left -= 1
        record.cases += 1
        try:
            check(case)
        except Exception as error:
            record.bad += 1
            where = place(error)
            if where in known:
                return
            smallest[where] = Fault(where, shorten(f"{type(error).__name__}: {error}"), shorten(describe(case)))
            raise

    while left > 0:
        options = hypothesis.settings(
            max_examples=left,
            database=None,
            deadline=None,
            print_blob=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            verbosity=hypothesis.Verbosity.quiet,
        )
        try:
            hypothesis.seed(seed + left)(options(hypothesis.given(cases)(run)))()
            break  # Small spaces have fewer cases.
        except Exception:
            if not smallest.keys() - known:
                raise
            known.update(smallest)
    record.faults += smallest.values()
