"""A process that is killed, a disk that is full: nothing half written or twice, nothing lost but the batch in hand."""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from amused_core import AmusedError
from amused_core.batch import store
from amused_core.batch.engine import run
from tests.core.batch.fakes import FakeBackend, job, outcome, records, table

PROMPTS = [f"p{number % 5}" for number in range(21)] + ["bad"]
FORMATS = ["files", "webdataset", "parquet"]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="the tests fork")


def in_a_child(work: Callable[[], object]) -> int:
    """Runs `work` in a process of its own; returns 0, minus the signal that ended it, or 99 after an error."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module", params=FORMATS)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    """A format, and what an undisturbed run leaves."""
    out = tmp_path_factory.mktemp("plain")
    run(job(table(PROMPTS), out, format=request.param, tokens="also"), FakeBackend())
    return request.param, outcome(out)


@needs_fork
def test_killed_at_every_write(plain: tuple[str, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each file is put in place, and after; each run but the last is killed at its first write of that count."""
    form, expected = plain
    beside = store.beside

    def killer(out: Path, count: int, after: bool) -> None:
        left = [count]

        @contextmanager
        def dying(path: Path):
            left[0] -= 1
            with beside(path) as partial:
                yield partial
                if not left[0] and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        store.beside = dying
        run(job(table(PROMPTS), out, format=form, tokens="also"), FakeBackend())

    writes = 0
    for after in (False, True):
        for count in range(1, 200, 1 if form != "files" else 5):
            out = tmp_path / f"{after}-{count}"
            code = in_a_child(partial(killer, out, count, after))
            assert code in (0, -signal.SIGKILL)
            if code == 0:
                break
            writes += 1
            run(job(table(PROMPTS), out, format=form, tokens="also"), FakeBackend())
            assert outcome(out) == expected, (count, after)
    assert writes >= 20


@needs_fork
def test_ten_kills_at_random(plain: tuple[str, dict], tmp_path: Path) -> None:
    form, expected = plain
    chance = random.Random(0)

    class Slow(FakeBackend):
        def draw(self, pictures):
            time.sleep(0.01)
            return super().draw(pictures)

    def begin() -> None:
        run(job(table(PROMPTS), tmp_path, format=form, tokens="also", batch=2), Slow())

    for _ in range(10):
        child = os.fork()
        if not child:
            begin()
            os._exit(0)
        time.sleep(chance.uniform(0.005, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    begin()
    assert outcome(tmp_path) == expected


def test_a_full_disk_stops_and_resumes(
    plain: tuple[str, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, expected = plain
    beside = store.beside

    def full_after(count: int) -> Callable[[Path], object]:
        def write(path: Path) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise AmusedError(
                    f"{str(path)!r} cannot be written: {OSError(errno.ENOSPC, 'No space left on device')}"
                )
            return beside(path)

        left = [count]
        return write

    for count in (1, 4, 9, 14):
        out = tmp_path / str(count)
        with monkeypatch.context() as patch:
            patch.setattr(store, "beside", full_after(count))
            with pytest.raises(AmusedError, match="No space left"):
                run(job(table(PROMPTS), out, format=form, tokens="also"), FakeBackend())
        assert not list(out.rglob("*.partial"))
        run(job(table(PROMPTS), out, format=form, tokens="also"), FakeBackend())
        assert outcome(out) == expected


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AmusedError, match="cannot be"):
        run(job(table(PROMPTS), tmp_path / "file" / "out"), FakeBackend())


def test_a_batch_that_breaks_is_not_counted(tmp_path: Path) -> None:
    """An error that is no refusal ends the run; what was drawn before it stays."""

    class Breaking(FakeBackend):
        def draw(self, pictures):
            if len(self.batches) == 3:
                raise RuntimeError("broken")
            return super().draw(pictures)

    with pytest.raises(RuntimeError, match="broken"):
        run(job(table(PROMPTS), tmp_path), Breaking())
    assert len(records(tmp_path)) == 12
