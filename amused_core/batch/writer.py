"""Decoding, encoding and storing batches in a thread of their own, while the next one is drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .backend import Drawn
from .columns import plain
from .drawing import drawings
from .job import Plan
from .ledger import BATCH, ERRORS, FOLDER, Ledger, Record, part_name
from .names import DIGITS
from .pictures import Picture

# Batches that may wait: their pictures are in memory.
WAITING = 2


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        done: pictures of our share that are stored or could not be drawn, those of earlier runs too.
        total: pictures of our share.
        errors: those among `done` that could not be drawn.
        drawn: pictures stored by this run.
        images: float [B,H,W,3] of the batch that was stored last; None at the start and where only tokens are stored.
    """

    done: int
    total: int
    errors: int
    drawn: int
    images: Tensor | None = None


@dataclass
class _Event:
    """What a finished piece of work adds."""

    done: int = 0
    errors: int = 0
    drawn: int = 0
    images: Tensor | None = field(default=None, repr=False)


class Writer:
    """Stores what is drawn, in order. As a context: at its end everything that was handed over is stored.

    Args:
        plan: the job.
        ledger: where it says what is stored.
        on_progress: see `engine.run`; called in the thread that hands over.
    """

    def __init__(self, plan: Plan, ledger: Ledger, on_progress: Callable[[Progress], None] | None) -> None:
        self.plan, self.ledger, self.format = plan, ledger, plan.format
        self.done = self.errors = self.drawn = 0
        self._on_progress = on_progress
        self._thread = ThreadPoolExecutor(1, "amused-batch-writer")
        self._broken = False
        self._waiting: deque[Future[_Event]] = deque()

    def __enter__(self) -> Writer:
        self._tell(_Event())
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self._collect(0)
            else:
                # Nobody is told any more, but what was drawn is kept.
                self._thread.submit(int).result()
        finally:
            self._thread.shutdown(cancel_futures=False)

    def skip(self, records: Iterable[Record]) -> None:
        """Counts what earlier runs did."""
        records = list(records)
        if records:
            self._tell(_Event(len(records), sum(record["status"] == "error" for record in records)))

    def fail(self, part: int, failures: Sequence[tuple[Picture, str]]) -> None:
        """Keeps pictures that cannot be drawn, each with a sentence."""
        self._submit(self._fail, part, failures)

    def store(self, part: int, pictures: Sequence[Picture], drawn: Drawn, seconds: float) -> None:
        """Keeps a batch; `seconds` that each of its pictures took to draw."""
        self._submit(self._store, part, pictures, drawn, seconds)

    def finish(self, part: int) -> None:
        """Puts the batches of a part together, after all that was handed over."""
        self._submit(self._finish, part)

    def _submit(self, work: Callable[..., _Event], *arguments: Any) -> None:
        self._waiting.append(self._thread.submit(self._run, work, *arguments))
        self._collect(WAITING)

    def _collect(self, most: int) -> None:
        """Tells of what is stored, waiting until at most so many wait."""
        while self._waiting and (len(self._waiting) > most or self._waiting[0].done()):
            self._tell(self._waiting.popleft().result())

    def _tell(self, event: _Event) -> None:
        self.done += event.done
        self.errors += event.errors
        self.drawn += event.drawn
        if self._on_progress is not None:
            self._on_progress(Progress(self.done, self.plan.total, self.errors, self.drawn, event.images))

    # in the thread

    def _run(self, work: Callable[..., _Event], *arguments: Any) -> _Event:
        # A part must not be finished after one of its batches could not be stored.
        if self._broken:
            return _Event()
        try:
            return work(*arguments)
        except BaseException:
            self._broken = True
            raise

    def _fail(self, part: int, failures: Sequence[tuple[Picture, str]]) -> _Event:
        name = f"{ERRORS}{failures[0][0].number:0{DIGITS}}"
        self.ledger.add_batch(part, name, (_failure(picture, error) for picture, error in failures))
        return _Event(done=len(failures), errors=len(failures))

    def _store(self, part: int, pictures: Sequence[Picture], drawn: Drawn, seconds: float) -> _Event:
        job = self.plan.job
        images = None if job.tokens == "only" else drawn.images()
        batch = f"{BATCH}{pictures[0].number:0{DIGITS}}"
        stage = f"{FOLDER}/{part_name(part)}/{batch}"
        self.format.write_batch(
            self.ledger.store, stage, drawings(pictures, drawn, images, job.ending, job.tokens != "no")
        )
        self.ledger.add_batch(
            part, batch, (self._record(part, *pair, seconds) for pair in zip(pictures, drawn.settings, strict=True))
        )
        return _Event(done=len(pictures), drawn=len(pictures), images=images)

    def _record(self, part: int, picture: Picture, settings: dict[str, Any], seconds: float) -> Record:
        return {
            "number": picture.number, "row": picture.row, "id": picture.id,
            "file": self.format.file(part_name(part), picture.file), "status": "ok", "error": None,
            "seconds": round(seconds, 4), **settings, **picture.columns,
        }  # fmt: skip

    def _finish(self, part: int) -> _Event:
        store, folder = self.ledger.store, f"{FOLDER}/{part_name(part)}"
        stages = [f"{folder}/{batch}" for batch in self.ledger.batches(part) if batch.startswith(BATCH)]
        self.format.finish(store, part_name(part), stages)
        self.ledger.finish(part)
        return _Event()


def _failure(picture: Picture, error: str) -> Record:
    # A token grid is no value of a table.
    arguments = {name: plain(value) for name, value in picture.arguments.items() if name != "tokens"}
    ours = {"number": picture.number, "row": picture.row, "id": picture.id, "file": None, "status": "error"}
    return {**ours, "error": error, "place": picture.place, **arguments, **picture.columns}
