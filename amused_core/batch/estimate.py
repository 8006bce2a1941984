"""What a job will take, before it begins: nothing is written."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..errors import AmusedError
from .backend import Backend
from .drawing import drawings, npy
from .engine import batches, group
from .job import Job, Plan
from .ledger import Ledger
from .pictures import Picture
from .store import Store
from .survey import survey

# Batches of which the first that can be drawn is measured.
SAMPLES = 16


@dataclass(frozen=True)
class Estimate:
    """What is known of a job.

    Attributes:
        rows, pictures: of the whole job.
        missing: pictures of our share that are not drawn yet; `batches` of them.
        errors: pictures found that cannot be drawn; `first_error` says of the first one where it is and why.
        seconds, bytes: for those missing, from one batch that was drawn and thrown away.
    """

    rows: int
    pictures: int
    missing: int
    batches: int
    errors: int
    first_error: str | None
    seconds: float
    bytes: int


def estimate(job: Job, backend: Backend) -> Estimate:
    """Goes through a job without drawing it, but for one batch.

    Raises:
        AmusedError: see `engine.run`.
    """
    plan = Plan(job, survey(job.pictures), backend.identity())
    ledger = Ledger(Store(job.out))
    resumed = ledger.check(plan.manifest(), job.overwrite)
    missing = count = errors = 0
    first_error: str | None = None
    samples: list[list[Picture]] = []
    for part, pictures in plan.parts_of_pictures():
        records = ledger.records(part) if resumed else []
        done = {record["number"] for record in records if not (job.retry_errors and record["status"] == "error")}
        groups, failures = group([picture for picture in pictures if picture.number not in done], backend)
        errors += len(failures)
        if failures and first_error is None:
            first_error = f"{failures[0][0].place}: {failures[0][1]}"
        for members in groups:
            cut = list(batches([members], job.batch, backend))
            missing, count = missing + len(members), count + len(cut)
            samples = sorted([*samples, cut[0]], key=len, reverse=True)[:SAMPLES]
    seconds = size = 0.0
    for pictures in samples:
        try:
            seconds, size = _measure(plan, backend, pictures)
            break
        except AmusedError as error:
            missing, errors = missing - len(pictures), errors + len(pictures)
            first_error = first_error or f"{pictures[0].place}: {error}"
    return Estimate(
        plan.survey.rows,
        plan.survey.pictures,
        missing,
        count,
        errors,
        first_error,
        seconds * missing,
        round(size * missing),
    )


def _measure(plan: Plan, backend: Backend, pictures: list[Picture]) -> tuple[float, float]:
    """Seconds and bytes of one picture."""
    began = time.perf_counter()
    drawn = backend.draw(pictures)
    images = None if plan.job.tokens == "only" else drawn.images()
    stored = list(drawings(pictures, drawn, images, plan.job.ending, plan.job.tokens != "no"))
    seconds = time.perf_counter() - began
    size = sum(len(one.picture or b"") + (0 if one.tokens is None else len(npy(one.tokens))) for one in stored)
    return seconds / len(pictures), size / len(pictures)
