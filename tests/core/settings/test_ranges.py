"""Numbers and names out of range: each is refused with its value and what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from amused_core import AmusedError, AmusedModel
from amused_core.errors import quoted
from amused_core.settings import inputs
from tests.core.refusals import refused

NAN, INF = float("nan"), float("inf")
HUGE = 10**400

BAD: dict[str, tuple[str, list[Any]]] = {
    "steps": ("1 to 1000", [0, -3, 1001, 2**70, 1.5, 4.0, "4", True, NAN, [4]]),
    "cfg": ("0 to 100", [-1, -0.001, 100.5, NAN, INF, "4", True, [1], HUGE]),
    "strength": ("0 to 1", [-0.1, 1.001, NAN, INF, "x", True, [0.5], HUGE]),
    "schedule": ("cosine, linear", ["x", "", "Cosine", 5, []]),
    "seeding": ("per_image, diffusers", ["x", "", "PER_IMAGE", None, 5, []]),
    "batch_size": ("from 1", [0, -1, 1.5, 2.0, "2", True, None, NAN]),
    "width": ("multiples of 4", [0, -4, 3, 30, 31.5, 32.0, "32", True, NAN]),
    "height": ("multiples of 4", [0, -32, 1, 33, "x", [32]]),
    "seed": ("0 to 18446744073709551615", [-1, 2**64, 1.5, 1.0, NAN, None, "5", True]),
    "cfg_schedule": ("constant, ramp, interval", ["x", "", "Ramp", 5, []]),
    "cfg_interval": (
        "0 <= first < second <= 1",
        [(0.5, 0.5), (0.7, 0.3), (-0.1, 1), (0, 1.1), (NAN, 1), (0,), (0, 0.5, 1), "ab", 0.5, (True, 1), [[0], 1]],
    ),
    "sampling_temperature": ("0.01 to 10", [0, 0.001, -1, 10.1, NAN, INF, "1", True, [1], HUGE]),
    "sampling_temperature_end": ("0 to 10", [-1, 10.1, NAN, INF, "1", True, [1], HUGE]),
    "revision": ("0 to 1", [-0.1, 1.001, NAN, INF, "1", True, [0.5], HUGE]),
    "cfg_rescale": ("0 to 1", [-0.1, 1.001, NAN, INF, "1", True, [0.5], HUGE]),
    "entropy_bound": ("0 to 1000", [-0.1, 1001, NAN, INF, "1", True, [0.5], HUGE]),
    "top_k": ("0 to 64", [-1, 65, 1.0, "5", True, NAN, HUGE]),
    "top_p": ("above 0 up to 1", [0, -0.1, 1.001, NAN, INF, "1", True, [1], HUGE]),
    "prompt": ("string", [None, 5, [], (), [3], b"abc", {"a": 1}, {"a"}]),
    "negative_prompt": ("string", [5, [], [3], b"abc", {"a": 1}]),
}
CASES = [(name, allowed, value) for name, (allowed, values) in BAD.items() for value in values]


@pytest.mark.parametrize(("name", "allowed", "value"), CASES, ids=[f"{n}-{v!r}"[:40] for n, _, v in CASES])
def test_refused(model: AmusedModel, name: str, allowed: str, value: Any) -> None:
    refused(model, name[1:], quoted(value), allowed, **{name: value})


@pytest.mark.parametrize("pair", [-1, 101, NAN, (1, -2), (NAN, 0), (0, INF), "ab", True, (None, 1), object(), HUGE])
def test_refused_temperature(model: AmusedModel, pair: Any) -> None:
    refused(model, "temperature", "0 to 100", temperature=pair)


@pytest.mark.parametrize("pair", [(1, 2, 3), (1,), []])
def test_temperature_is_one_number_or_two(model: AmusedModel, pair: Any) -> None:
    refused(model, f"temperature is {pair!r}", "one number or a pair", temperature=pair)


@pytest.mark.parametrize(
    ("seeds", "part"), [([1, -2], "-2"), ([1.0], "1.0"), ([], "empty list"), ([2**64], str(2**64))]
)
def test_refused_seed_lists(model: AmusedModel, seeds: list[Any], part: str) -> None:
    refused(model, "seed", part, "whole number", seed=seeds)


def test_sizes_that_no_machine_can_hold() -> None:
    """Asked of the checks alone: a run that slipped through would take the machine down."""
    with pytest.raises(AmusedError, match=r"batch_size is 1000000000; allowed"):
        inputs.batch_size({"prompt": 1}, 10**9)
    with pytest.raises(AmusedError, match=r"width is 1099511627776; allowed"):
        inputs.side(2**40, "width", 16)


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": np.int64(2)},
        {"cfg": np.float32(1.0)},
        {"cfg": np.float64(1.0)},
        {"cfg": 1},
        {"temperature": np.float32(2.0)},
        {"temperature": [2, 0]},
        {"top_k": np.int64(0), "top_p": np.float64(1), "sampling_temperature": np.float32(1)},
        {"seed": np.int64(5)},
        {"seed": np.uint64(5)},
        {"seed": np.array([5])},
        {"batch_size": np.int64(1)},
        {"width": np.int64(32), "height": np.int32(32)},
    ],
    ids=str,
)
def test_numbers_of_numpy_are_numbers(model: AmusedModel, arguments: dict[str, Any]) -> None:
    good = {"prompt": "a cat", "steps": 2, "cfg": 1.0, "seed": 5, "temperature": (2.0, 0.0)}
    if isinstance(arguments.get("temperature"), np.floating):
        good["temperature"] = 2.0
    assert torch.equal(model.generate(**{**good, **arguments}).tokens, model.generate(**good).tokens)


@pytest.mark.parametrize("seed", [0, 2**32 + 1, 2**63, 2**64 - 1])
def test_huge_seeds(model: AmusedModel, seed: int) -> None:
    """A seed at the end of the range goes on at its beginning."""
    pair = model.generate("a cat", seed=seed, batch_size=2, steps=2).tokens
    assert torch.equal(pair[1:], model.generate("a cat", seed=(seed + 1) % 2**64, steps=2).tokens)


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": 1},
        {"cfg": 0},
        {"cfg": 100},
        {"temperature": (100, 100)},
        {"temperature": 0},
        {"sampling_temperature": 0.01},
        {"sampling_temperature": 10},
        {"sampling_temperature_end": 1e-9},
        {"sampling_temperature_end": 10},
        {"revision": 1},
        {"cfg_rescale": 1},
        {"order": "entropy", "entropy_bound": 0},
        {"order": "entropy", "entropy_bound": 1000},
        {"top_k": 64},
        {"top_p": 1e-9},
        {"cfg_interval": (0, 1)},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(model: AmusedModel, arguments: dict[str, Any]) -> None:
    assert torch.isfinite(model.generate("a cat", **{"steps": 3, **arguments}).images).all()


@pytest.mark.parametrize("schedule", ["ramp", "constant"])
def test_an_interval_of_guidance_needs_its_schedule(model: AmusedModel, schedule: str) -> None:
    """The whole run is no interval: so settings of an image can be given again."""
    want = f"cfg_interval is (0.5, 1.0) and cfg_schedule is {schedule!r}; allowed beside it is 'interval'."
    refused(model, want, cfg_interval=(0.5, 1), cfg_schedule=schedule)
    again = model.generate("a cat", steps=1, cfg_schedule=schedule).settings[0]
    assert model.generate("a cat", cfg_interval=again["cfg_interval"], cfg_schedule=schedule, steps=1).settings == [
        again
    ]
