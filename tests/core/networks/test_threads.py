"""As many threads as there are free cores: within a run, and never after it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from amused_core import AmusedModel
from amused_core.networks import threads
from amused_core.networks.threads import decoding_threads, free_threads, sleeping_threads

COUNT_OTHERS = threads._others


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The count that the other tests leave out."""
    monkeypatch.setattr(threads, "_others", COUNT_OTHERS)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets how many threads of other processes run, on a machine with four cores and as many threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(threads, "_own_running", lambda: 1)

    def others(number: int) -> None:
        monkeypatch.setattr(threads, "_running", lambda: number + 1)
        monkeypatch.setattr(threads, "_last", [float("-inf"), 0])

    yield others
    torch.set_num_threads(before)


@pytest.mark.parametrize(("others", "number"), [(0, 4), (1, 3), (3, 1), (4, 1), (50, 1)])
def test_a_thread_for_each_free_core(busy: Callable[[int], None], others: int, number: int) -> None:
    busy(others)
    with free_threads():
        assert torch.get_num_threads() == number
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("others", "number"), [(0, 4), (1, 3), (2, 2), (3, 8), (50, 8)])
def test_large_products_take_more_threads_than_cores_if_few_are_free(
    busy: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, others: int, number: int
) -> None:
    monkeypatch.setattr(threads, "_gnu_openmp", lambda: True)
    busy(others)
    with free_threads(), free_threads(large=True):
        assert torch.get_num_threads() == number
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("cause", ["another OpenMP", "fewer threads than cores"])
def test_large_products_take_the_free_cores_where_waiting_threads_spin(
    busy: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    monkeypatch.setattr(threads, "_gnu_openmp", lambda: cause != "another OpenMP")
    torch.set_num_threads(3 if cause == "fewer threads than cores" else 4)
    busy(4)
    with free_threads(large=True):
        assert torch.get_num_threads() == 1


def _tasks() -> int:
    return len(list((threads._PROC / "self" / "task").glob("*")))


@pytest.mark.skipif(not threads._gnu_openmp(), reason="threads of GNU's OpenMP")
@pytest.mark.parametrize(("others", "more"), [(0, 0), (1, 4)])
def test_as_many_threads_again_while_not_each_has_a_core(busy: Callable[[int], None], others: int, more: int) -> None:
    busy(others)
    torch.empty(4 * threads._GRAIN).fill_(0)
    before = _tasks()
    with sleeping_threads():
        assert torch.get_num_threads() == 4
        assert _tasks() == before + more
    deadline = time.monotonic() + 60
    while _tasks() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _tasks() == before


@pytest.mark.parametrize(("others", "number"), [(0, 4), (2, 4), (3, 8), (50, 8)])
def test_decoding_takes_more_threads_but_never_fewer(
    busy: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, others: int, number: int
) -> None:
    monkeypatch.setattr(threads, "_gnu_openmp", lambda: True)
    busy(others)
    with decoding_threads():
        assert torch.get_num_threads() == number
    assert torch.get_num_threads() == 4


def test_never_more_than_the_host_has_set(busy: Callable[[int], None]) -> None:
    torch.set_num_threads(2)
    for others, number in ((0, 2), (1, 2), (3, 1)):
        busy(others)
        with free_threads():
            assert torch.get_num_threads() == number
    assert torch.get_num_threads() == 2


def test_an_inner_one_counts_anew(busy: Callable[[int], None]) -> None:
    busy(4)
    with free_threads():
        assert torch.get_num_threads() == 1
        busy(0)
        with free_threads():
            assert torch.get_num_threads() == 4
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


def test_after_an_error(busy: Callable[[int], None]) -> None:
    busy(4)
    with pytest.raises(KeyboardInterrupt), free_threads():
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 4


def test_a_count_is_believed_for_a_moment(busy: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    busy(4)
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    seen = []
    for moment, others in ((100.0, 4), (100.1, 0), (100.3, 0)):
        clock[0] = moment
        monkeypatch.setattr(threads, "_running", lambda others=others: others + 1)
        with free_threads():
            seen.append(torch.get_num_threads())
    assert seen == [1, 1, 4]


def test_a_system_that_does_not_say(
    busy: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(threads, "_PROC", tmp_path)
    monkeypatch.setattr(threads, "_last", [float("-inf"), 0])
    before = torch.get_num_threads()
    with free_threads():
        assert torch.get_num_threads() == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says what runs")
def test_neighbours_are_counted() -> None:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        deadline = time.monotonic() + 60
        while threads._running() - threads._own_running() < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert threads._running() - threads._own_running() >= 3
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.parametrize("others", [0, 4])
def test_a_run_leaves_the_number_alone(model: AmusedModel, busy: Callable[[int], None], others: int) -> None:
    busy(others)
    seen = set()
    model.generate("a cat", steps=2, on_step=lambda step: seen.add(torch.get_num_threads()))
    assert seen == {4 if others == 0 else 1} and torch.get_num_threads() == 4


@pytest.mark.parametrize("others", [0, 4])
def test_small_decoders_take_one_thread(
    model: AmusedModel, busy: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """Whatever the load: pixels depend on the number of threads in their last bits."""
    busy(others)
    original, seen = model.vq._decode, []
    monkeypatch.setattr(model.vq, "_decode", lambda *args: (seen.append(torch.get_num_threads()), original(*args))[1])
    model.vq.decode(torch.zeros(2, 8, 8, dtype=torch.int64))
    assert seen == [1, 1] and torch.get_num_threads() == 4
