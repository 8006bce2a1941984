"""Mask ratios and temperatures."""

from __future__ import annotations

import math

import pytest
import torch

from amused_core import AmusedError
from amused_core.sampling.schedule import SCHEDULES, Schedule, check_schedule, mask_ratios, start_step


def test_cosine_values() -> None:
    want = [math.cos(math.pi / 2 * i / 12) for i in range(12)] + [0.0]
    assert torch.allclose(mask_ratios(12), torch.tensor(want), atol=1e-6)


def test_linear_values() -> None:
    assert mask_ratios(4, "linear").tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 12, 999, 1000])
def test_ratios_fall_from_one_to_exactly_zero(schedule: str, steps: int) -> None:
    ratios = mask_ratios(steps, schedule)
    assert ratios.shape == (steps + 1,) and ratios.dtype == torch.float32
    assert ratios[0] == 1 and ratios[-1] == 0
    assert (ratios.diff() < 0).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_partial_run_is_the_end_of_the_whole_one(schedule: str) -> None:
    whole = mask_ratios(12, schedule)
    for start in range(12):
        assert torch.equal(mask_ratios(12, schedule, start), whole[start:])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_is_read_back_from_its_ratios(schedule: str) -> None:
    """Every schedule of 1 to 64 steps, from every start; a last step alone could belong to either."""
    for steps in range(1, 65):
        for start in range(steps - 1):
            part = Schedule.named(schedule, steps, start)
            read = Schedule.from_ratios(part.ratios)
            assert (read.steps, read.shares) == (part.steps, part.shares)
            assert torch.equal(read.ratios, part.ratios)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 12, 64, 1000])
def test_temperatures_fall_over_the_whole_schedule(schedule: str, steps: int) -> None:
    whole = torch.linspace(2.0, 0.5, steps).tolist()
    for start in {0, steps // 3, steps - 1}:
        assert Schedule.named(schedule, steps, start).temperatures((2.0, 0.5)) == whole[start:]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [100, 250, 1000])
def test_temperatures_of_long_runs_read_back(schedule: str, steps: int) -> None:
    temperatures = Schedule.from_ratios(mask_ratios(steps, schedule)).temperatures((2.0, 0.0))
    assert torch.allclose(torch.tensor(temperatures), torch.linspace(2.0, 0.0, steps), atol=0.02)


def test_temperatures_of_a_split_run() -> None:
    """The first half of a schedule (it ends above 0) has the first half of the temperatures."""
    ratios = mask_ratios(12)
    whole = torch.linspace(2.0, 0.0, 12).tolist()
    assert Schedule.from_ratios(ratios[:7]).temperatures((2.0, 0.0)) == whole[:6]
    assert Schedule.from_ratios(ratios[6:]).temperatures((2.0, 0.0)) == whole[6:]


def test_temperatures_of_uneven_ratios_fall_within_the_range() -> None:
    schedule = Schedule.from_ratios(torch.tensor([1.0, 0.93, 0.41, 0.4, 0.0]))
    values = torch.tensor(schedule.temperatures((2.0, 0.5)))
    assert schedule.steps is None and values.shape == (4,) and (values.diff() <= 0).all()
    assert values[0] == 2.0 and values.min() >= 0.5


@pytest.mark.parametrize("ratios", [[1.0, 0.0], [0.5, 0.5, 0.0], [1.0, 1.0, 0.0], [0.3, 0.0]])
def test_temperatures_of_odd_ratios_are_finite(ratios: list[float]) -> None:
    values = Schedule.from_ratios(torch.tensor(ratios)).temperatures((2.0, 0.0))
    assert torch.isfinite(torch.tensor(values)).all() and len(values) == len(ratios) - 1


def test_progress() -> None:
    first, *_, last = Schedule.named("linear", 8, 4).progress((2.0, 0.25))
    assert (first.index, first.total, first.ratio, first.next_ratio, first.share) == (0, 4, 0.5, 0.375, 0.5)
    assert (last.index, last.next_ratio, last.share, last.temperature) == (3, 0.0, 0.875, 0.25)


@pytest.mark.parametrize(
    ("steps", "strength", "start"),
    [(12, 1.0, 0), (12, 0.5, 6), (12, 0.0, 11), (12, 0.01, 11), (1, 0.5, 0), (1, 0.0, 0), (1000, 1e-9, 999)],
)
def test_a_run_has_at_least_one_step(steps: int, strength: float, start: int) -> None:
    assert start_step(steps, strength) == start


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_out_of_range(steps: int) -> None:
    with pytest.raises(AmusedError, match=rf"steps is {steps}; allowed are 1 to 1000"):
        mask_ratios(steps)


@pytest.mark.parametrize("start", [-1, 4, 99])
def test_start_out_of_range(start: int) -> None:
    with pytest.raises(AmusedError, match=rf"start is {start}; allowed are 0 to 3"):
        mask_ratios(4, start=start)


@pytest.mark.parametrize("name", ["Cosine", "", "sigmoid", None])
def test_unknown_schedule(name: str) -> None:
    with pytest.raises(AmusedError) as error:
        check_schedule(name)
    assert repr(name) in str(error.value) and "cosine, linear" in str(error.value)
