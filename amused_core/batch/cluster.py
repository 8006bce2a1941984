"""A batch job on a Ray cluster: Ray deals out the parts, restarts what dies, and asks for GPUs where there are any."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import load_model
from .engine import OnProgress, Summary, draw_parts
from .extra import ray as ray_library
from .job import Job, Plan
from .ledger import Ledger
from .lock import locked
from .model_backend import ModelBackend
from .pictures import Picture
from .store import Store
from .survey import survey
from .tables import publish
from .writer import Progress, Writer


def run_on_ray(
    job: Job,
    loading: dict[str, Any],
    address: str = "",
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """The same as `engine.run`, on a cluster; the folder, the rows and the model must be within every machine's reach.

    Args:
        job: what to draw.
        loading: arguments of `load_model`.
        address: of the cluster; "" starts a Ray on this machine.
        workers: actors, each with a model; None: one a GPU, or one a CPU where there are none.
        on_progress: see `engine.run`; called after each part.

    Raises:
        AmusedError: see `engine.run`; Ray is not installed.
    """
    ray = ray_library()
    began = time.perf_counter()
    plan = Plan(job, survey(job.pictures), ModelBackend(load_model(**loading)).identity())
    ledger = Ledger(Store(job.out))
    progress = Progress(0, plan.total, 0, 0)
    begin = partial(ledger.begin, plan.manifest(), job.overwrite)
    with locked(ledger.store, job.shard, begin, job.unlock), _connection(ray, address):
        try:
            for done, errors, drawn in _deal(ray, plan, loading, workers):
                progress = Progress(progress.done + done, plan.total, progress.errors + errors, progress.drawn + drawn)
                if on_progress is not None:
                    on_progress(progress)
        finally:
            results, errors = publish(plan, ledger)
    return Summary(plan.total, progress.drawn, errors, results, time.perf_counter() - began)


def _deal(ray: Any, plan: Plan, loading: dict[str, Any], workers: int | None) -> Iterator[tuple[int, int, int]]:
    """(done, errors, drawn) of each part, as they are finished."""
    parts = [{"part": part} for part in plan.parts]
    if not parts:
        return
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    count = min(len(parts), workers or gpus or max(1, int(resources.get("CPU", 1))))
    # The caller has a progress of its own.
    ray.data.DataContext.get_current().enable_progress_bars = False
    results = ray.data.from_items(parts, override_num_blocks=len(parts)).map_batches(
        PartDrawer,
        fn_constructor_args=(plan, loading),
        batch_size=1,
        concurrency=count,
        num_gpus=1 if gpus else None,
    )
    for row in results.iter_rows():
        yield int(row["done"]), int(row["errors"]), int(row["drawn"])


class PartDrawer:
    """Draws whole parts of a job: an actor of Ray. A part that another one had begun is gone on with."""

    def __init__(self, plan: Plan, loading: dict[str, Any]) -> None:
        self.plan = plan
        self.ledger = Ledger(Store(plan.job.out))
        self.backend = ModelBackend(load_model(**loading), plan.job.source)
        self._parts = plan.parts_of_pictures()
        self._next = 0

    def __call__(self, table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Draws the parts whose numbers are in the column "part"."""
        writer = Writer(self.plan, self.ledger, None)
        parts = [(int(number), self._pictures(int(number))) for number in table["part"]]
        draw_parts(parts, self.plan, self.ledger, self.backend, writer)
        return {name: np.array([getattr(writer, name)]) for name in ("done", "errors", "drawn")}

    def _pictures(self, part: int) -> list[Picture]:
        """The rows are read on from where the last part ended, and from the start only to go back."""
        if part < self._next:
            self._parts = self.plan.parts_of_pictures()
        for number, pictures in self._parts:
            self._next = number + 1
            if number == part:
                return pictures
        raise IndexError(f"The rows have no part {part}; they have changed.")


class _connection:
    """A connection to Ray that is closed where it was opened here."""

    def __init__(self, ray: Any, address: str) -> None:
        self.ray, self.address, self.opened = ray, address, not ray.is_initialized()

    def __enter__(self) -> None:
        if self.opened:
            # A local one needs no dashboard; a cluster has its own.
            where = {"address": self.address} if self.address else {"address": "local", "include_dashboard": False}
            self.ray.init(**where, log_to_driver=False)

    def __exit__(self, *_: Any) -> None:
        if self.opened:
            self.ray.shutdown()
