"""What the command shows of a job: a bar while it runs, sentences at its end."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .backend import Backend
from .engine import OnProgress, Summary
from .estimate import estimate
from .extra import progress_bar
from .job import Job
from .writer import Progress

# Some rows could not be drawn.
INCOMPLETE = 3


def show_run(job: Job, work: Callable[[OnProgress], Summary]) -> int:
    """Runs a job with a bar; Ctrl-C ends it after the batch in hand, a second one at once."""
    with _interrupts() as stopped, _Bar() as bar:

        def on_progress(progress: Progress) -> None:
            bar.show(progress)
            if stopped.is_set():
                raise KeyboardInterrupt

        summary = work(on_progress)
    print(
        f"{job.out}/{summary.results}: {summary.total - summary.errors} images, {summary.drawn} of them now "
        f"({summary.seconds:.1f} s)"
    )
    if summary.errors:
        print(f"amused: {summary.errors} could not be generated; errors.jsonl says why.", file=sys.stderr)
    return INCOMPLETE if summary.errors else 0


def show_estimate(job: Job, backend: Backend) -> int:
    """Says what a job will take."""
    found = estimate(job, backend)
    print(f"rows: {found.rows}, images: {found.pictures}, to generate here: {found.missing} in {found.batches} batches")
    print(f"time: about {_duration(found.seconds)}, disk: about {found.bytes / 1e6:.1f} MB")
    if found.errors:
        print(f"amused: {found.errors} cannot be generated, first {found.first_error}", file=sys.stderr)
    return INCOMPLETE if found.errors else 0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


class _Bar:
    """tqdm's bar: images a second and time left, of what this run draws."""

    def __enter__(self) -> _Bar:
        self._bar: Any = None
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, progress: Progress) -> None:
        """Moves the bar to where the run is."""
        if self._bar is None:
            self._bar = progress_bar(total=progress.total, unit=" images", file=sys.stderr, dynamic_ncols=True)
        # What earlier runs did would make this one look faster.
        self._bar.initial = progress.done - progress.drawn
        if progress.errors:
            self._bar.set_postfix(errors=progress.errors, refresh=False)
        self._bar.update(progress.done - self._bar.n)


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one is an ordinary one."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: Any) -> None:
        print("\namused: stopping after this batch; Ctrl-C again stops at once.", file=sys.stderr)
        stopped.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
