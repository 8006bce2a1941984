"""Mask ratios and temperatures."""

from __future__ import annotations

import math

import pytest
import torch

from amused_core import AmusedError
from amused_core.sampling.schedule import SCHEDULES, check_schedule, mask_ratios, start_step, temperatures


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
def test_temperatures_are_read_back_from_the_ratios(schedule: str) -> None:
    """Every schedule of 1 to 64 steps, from every start; a last step alone has no use for its temperature."""
    for steps in range(1, 65):
        whole = torch.linspace(2.0, 0.5, steps)
        for start in range(steps - 1):
            assert torch.equal(temperatures(mask_ratios(steps, schedule, start), (2.0, 0.5)), whole[start:])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [100, 250, 1000])
def test_temperatures_of_long_runs(schedule: str, steps: int) -> None:
    got = temperatures(mask_ratios(steps, schedule), (2.0, 0.0))
    assert torch.allclose(got, torch.linspace(2.0, 0.0, steps), atol=0.02)


def test_temperatures_of_a_split_run() -> None:
    """The first half of a schedule (it ends above 0) has the first half of the temperatures."""
    ratios = mask_ratios(12)
    whole = torch.linspace(2.0, 0.0, 12)
    assert torch.equal(temperatures(ratios[:7], (2.0, 0.0)), whole[:6])
    assert torch.equal(temperatures(ratios[6:], (2.0, 0.0)), whole[6:])


def test_temperatures_off_any_grid_fall_within_the_range() -> None:
    values = temperatures(torch.tensor([1.0, 0.93, 0.41, 0.4, 0.0]), (2.0, 0.5))
    assert values.shape == (4,) and (values.diff() <= 0).all()
    assert values[0] == 2.0 and values.min() >= 0.5


@pytest.mark.parametrize("ratios", [[1.0, 0.0], [0.5, 0.5, 0.0], [1.0, 1.0, 0.0], [0.3, 0.0]])
def test_temperatures_of_odd_ratios_are_finite(ratios: list[float]) -> None:
    values = temperatures(torch.tensor(ratios), (2.0, 0.0))
    assert torch.isfinite(values).all() and len(values) == len(ratios) - 1


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
