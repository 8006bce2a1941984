"""The engine of batch jobs: pictures in, files out; knows of no command line, no ComfyUI and no Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ..errors import AmusedError
from .backend import Backend
from .job import Job, Plan
from .ledger import Ledger, Record
from .lock import locked
from .pictures import Picture
from .store import Store
from .survey import survey
from .tables import publish
from .writer import Progress, Writer

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Summary:
    """What a run has done.

    Attributes:
        total: pictures of our share of the job.
        drawn: pictures drawn by this run.
        errors: pictures that could not be drawn, by this run or before.
        results: name of the results' file.
        seconds: the run took.
    """

    total: int
    drawn: int
    errors: int
    results: str
    seconds: float


def run(job: Job, backend: Backend, on_progress: OnProgress | None = None) -> Summary:
    """Draws what is not drawn yet.

    Args:
        job: what to draw.
        backend: what draws.
        on_progress: called in this thread at the start and after each batch that is stored. What it raises ends the
            run and passes through; everything drawn by then is kept.

    Raises:
        AmusedError: two pictures of one id; another job's folder, or another process in it; a disk that is full or
            cannot be written.
    """
    return draw(Plan(job, survey(job.pictures), backend.identity()), backend, on_progress)


def draw(plan: Plan, backend: Backend, on_progress: OnProgress | None = None) -> Summary:
    """The same for a job that was looked at."""
    job, ledger = plan.job, Ledger(Store(plan.job.out))
    with locked(ledger.store, job.shard, partial(ledger.begin, plan.manifest(), job.overwrite), job.unlock):
        began = time.perf_counter()
        writer = Writer(plan, ledger, on_progress)
        try:
            draw_parts(plan.parts_of_pictures(), plan, ledger, backend, writer)
        finally:
            # Also after an error, and when a callback cancels: what is done has its line.
            results, errors = publish(plan, ledger)
    return Summary(plan.total, writer.drawn, errors, results, time.perf_counter() - began)


def draw_parts(
    parts: Iterable[tuple[int, Sequence[Picture]]], plan: Plan, ledger: Ledger, backend: Backend, writer: Writer
) -> None:
    """Draws what is not drawn yet of some parts; at the end all of it is stored."""
    with writer:
        for part, pictures in parts:
            _draw_part(part, pictures, plan, ledger, backend, writer)


def _draw_part(
    part: int, pictures: Sequence[Picture], plan: Plan, ledger: Ledger, backend: Backend, writer: Writer
) -> None:
    records = ledger.records(part)
    if plan.job.retry_errors and any(_failed(record) for record in records):
        records = [record for record in records if not _failed(record)]
        ledger.reopen(part, records)
    writer.skip(records)
    if ledger.is_finished(part):
        ledger.clean(part)
        return
    done = {record["number"] for record in records}
    grouped, failures = group([picture for picture in pictures if picture.number not in done], backend)
    if failures:
        writer.fail(part, failures)
    for batch in batches(grouped, plan.job.batch, backend):
        _draw_batch(part, batch, backend, writer)
    writer.finish(part)


def group(pictures: Iterable[Picture], backend: Backend) -> tuple[list[list[Picture]], list[tuple[Picture, str]]]:
    """Pictures that can be drawn together, and those that cannot be drawn, each with a sentence.

    Groups, and prompts within them, are in the order in which they first appear. Equal prompts come together, so that
    they are encoded once.
    """
    groups: dict[Hashable, dict[str, list[Picture]]] = {}
    failures = []
    for picture in pictures:
        try:
            if picture.error:
                raise AmusedError(picture.error)
            same = groups.setdefault(backend.group(picture), {})
        except AmusedError as error:
            failures.append((picture, str(error)))
            continue
        same.setdefault(str(picture.arguments.get("prompt")), []).append(picture)
    return [[picture for same in prompts.values() for picture in same] for prompts in groups.values()], failures


def batches(groups: Iterable[Sequence[Picture]], size: int | None, backend: Backend) -> Iterator[list[Picture]]:
    """Groups cut into batches of at most `size`, or of what the backend says, each in the order of its numbers."""
    for members in groups:
        count = size or backend.batch_size(members[0])
        for first in range(0, len(members), count):
            yield sorted(members[first : first + count], key=lambda picture: picture.number)


def _draw_batch(part: int, pictures: list[Picture], backend: Backend, writer: Writer) -> None:
    """Draws a batch; where it is refused, one picture at a time, so that one does not take others with it."""
    began = time.perf_counter()
    try:
        drawn = backend.draw(pictures)
    except AmusedError as error:
        if len(pictures) == 1:
            writer.fail(part, [(pictures[0], str(error))])
        else:
            for picture in pictures:
                _draw_batch(part, [picture], backend, writer)
        return
    writer.store(part, pictures, drawn, (time.perf_counter() - began) / len(pictures))


def _failed(record: Record) -> bool:
    return record["status"] == "error"
