"""Memory does not grow with the rows, but for the 16 bytes by which repeated ids are found."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from amused_core.batch.engine import run
from amused_core.batch.estimate import estimate
from amused_core.batch.job import Job
from amused_core.batch.pictures import Expansion, table_pictures
from tests.core.batch.fakes import FakeBackend


class Forgetful(FakeBackend):
    """It keeps no list of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = _Nothing()


class _Nothing(list):
    def append(self, item: object) -> None:
        pass


def make_job(folder: Path, count: int) -> Job:
    rows = folder / f"{count}.jsonl"
    with rows.open("w") as file:
        file.writelines(
            f'{{"id": "row {n}", "prompt": "a {{cat|dog}} {n}", "note": "{"x" * 100}"}}\n' for n in range(count)
        )
    return Job(partial(table_pictures, str(rows), Expansion()), str(folder / f"out{count}"), {}, part=100, batch=50)


def peak(work: Callable[[], object]) -> int:
    """Bytes of Python's and NumPy's memory, at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_hundred_thousand_dry_rows(tmp_path: Path) -> None:
    small, large = (peak(partial(estimate, make_job(tmp_path, count), Forgetful())) for count in (1000, 100_000))
    # Two hashes of 8 bytes, their array grown by an eighth at a time, and one of them sorted beside.
    assert large - small < 99_000 * 48


@pytest.mark.slow
def test_two_thousand_drawn_rows(tmp_path: Path) -> None:
    run(make_job(tmp_path, 100), Forgetful())
    small, large = (peak(partial(run, make_job(tmp_path, count), Forgetful())) for count in (200, 2000))
    assert large - small < 300_000, "the rows alone are 350 KB"
