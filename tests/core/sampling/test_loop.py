"""The sampling loop with fake models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from amused_core import AmusedError, Step
from amused_core.sampling.guidance import guide
from amused_core.sampling.loop import sample
from amused_core.sampling.randomness import Draws, PerImageDraws, SharedDraws, seeded
from amused_core.sampling.schedule import SCHEDULES, Schedule, mask_ratios
from amused_core.sampling.start import start_tokens
from tests.core.fakes import Grid, masked_only

CODES, MASK = 16, 99


def noise(dtype: torch.dtype = torch.float32, scale: float = 3.0) -> Grid:
    """A model whose logits depend only on the step, and differ from cell to cell."""

    def predict(tokens: Tensor, index: int) -> Tensor:
        batch, height, width = tokens.shape
        logits = torch.randn(1, CODES, height, width, generator=seeded(index)) * scale
        return logits.expand(batch, -1, -1, -1).to(dtype)

    return predict


def masked(batch: int = 1, height: int = 8, width: int = 8) -> Tensor:
    return torch.full((batch, height, width), MASK)


def run(
    tokens: Tensor, predict: Grid, steps: int = 8, schedule: str = "cosine", draws: Draws | None = None, **more
) -> Tensor:
    ratios = more.pop("ratios", None)
    part = Schedule.named(schedule, steps) if ratios is None else Schedule.from_ratios(ratios)
    draws = draws or PerImageDraws(range(len(tokens)))
    return sample(tokens, masked_only(predict), part, draws, mask_token_id=MASK, temperature=(2.0, 0.0), **more)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 12, 64, 200])
def test_everything_is_filled(schedule: str, steps: int) -> None:
    tokens = run(masked(2), noise(), steps, schedule)
    assert tokens.shape == (2, 8, 8) and tokens.dtype == torch.int64
    assert tokens.min() >= 0 and tokens.max() < CODES


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_says_how_many_stay_masked(schedule: str) -> None:
    seen: list[Step] = []
    run(masked(2), noise(), 12, schedule, on_step=seen.append)
    ratios = mask_ratios(12, schedule)
    assert [step.index for step in seen] == list(range(12)) and {step.total for step in seen} == {12}
    for step in seen:
        want = int(64 * ratios[step.index + 1])
        assert (step.tokens == MASK).flatten(1).sum(-1).tolist() == [want, want]
        assert (step.predicted < CODES).all() and step.predicted.shape == step.tokens.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shared", [False, True])
def test_a_known_token_is_never_changed(dtype: torch.dtype, shared: bool) -> None:
    for seed in range(20):
        tokens = torch.randint(0, CODES, (2, 8, 8), generator=seeded(seed))
        known = torch.rand(2, 8, 8, generator=seeded(seed + 1000)) < 0.8
        draws = SharedDraws(seeded(seed)) if shared else PerImageDraws([seed, seed + 1])
        steps: list[Step] = []
        out = run(torch.where(known, tokens, MASK), noise(dtype), 12, draws=draws, on_step=steps.append)
        for grid in [out, *(step.tokens for step in steps), *(step.predicted for step in steps)]:
            assert torch.equal(grid[known], tokens[known])


def test_the_given_tokens_are_not_written_to() -> None:
    tokens = masked()
    run(tokens, noise())
    assert (tokens == MASK).all()


@pytest.mark.parametrize("shared", [False, True])
def test_nothing_masked_asks_nothing(shared: bool) -> None:
    def predict(tokens: Tensor, index: int) -> Tensor:
        raise AssertionError("called")

    tokens = torch.randint(0, CODES, (2, 8, 8))
    assert torch.equal(run(tokens, predict, draws=SharedDraws(seeded(0)) if shared else None), tokens)


def test_one_finished_picture_waits_for_the_other() -> None:
    tokens = torch.randint(0, CODES, (2, 8, 8), generator=seeded(0))
    start = torch.stack([tokens[0], torch.full((8, 8), MASK)])
    out = run(start, noise())
    assert torch.equal(out[0], tokens[0])
    assert torch.equal(out[1], run(masked(), noise(), draws=PerImageDraws([1]))[0])


def test_each_region_has_its_own_share() -> None:
    region = torch.zeros(2, 8, 8, dtype=torch.bool)
    region[0, :, :4] = True
    region[1, 0, :4] = True
    tokens = torch.where(region, MASK, 3)
    steps: list[Step] = []
    out = run(tokens, noise(), 4, "linear", region=region, on_step=steps.append)
    counts = [(step.tokens == MASK).flatten(1).sum(-1).tolist() for step in steps]
    assert counts == [[24, 3], [16, 2], [8, 1], [0, 0]]
    assert (out[~region] == 3).all()


def test_a_picture_in_a_batch_is_the_picture_alone() -> None:
    region = torch.rand(3, 8, 8, generator=seeded(0)) < torch.tensor([0.1, 0.5, 0.9])[:, None, None]
    start = torch.where(region, MASK, 3)
    batch = run(start, noise(), region=region, draws=PerImageDraws([4, 5, 6]))
    for i in range(3):
        alone = run(start[i : i + 1], noise(), region=region[i : i + 1], draws=PerImageDraws([4 + i]))
        assert torch.equal(alone[0], batch[i])


def test_a_first_stage_keeps_cells_masked_and_a_second_goes_on() -> None:
    ratios = mask_ratios(12)
    draws, calls = PerImageDraws([3]), []

    def predict(tokens: Tensor, index: int) -> Tensor:
        calls.append(index)
        return torch.randn(1, CODES, 8, 8, generator=seeded(len(calls)))

    half = run(masked(), predict, ratios=ratios[:7], draws=draws)
    assert (half == MASK).sum() == int(64 * ratios[6])
    split = run(half, predict, ratios=ratios[6:], draws=draws)
    calls.clear()
    assert torch.equal(split, run(masked(), predict, ratios=ratios, draws=PerImageDraws([3])))


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 7), (3, 1)])
@pytest.mark.parametrize("steps", [1, 2, 12])
def test_tiny_grids(size: tuple[int, int], steps: int) -> None:
    out = run(masked(2, *size), noise(), steps)
    assert out.shape == (2, *size) and out.max() < CODES


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
def test_broken_logits_are_refused(value: float, shared: bool, steps: int) -> None:
    def predict(tokens: Tensor, index: int) -> Tensor:
        logits = noise()(tokens, index).clone()
        logits[0, 3] = value
        return logits

    with pytest.raises(AmusedError, match="NaN"):
        run(masked(), predict, steps, draws=SharedDraws(seeded(0)) if shared else None)


def test_forbidden_codes_are_not_drawn() -> None:
    """Minus infinity is how a host bans a code."""

    def predict(tokens: Tensor, index: int) -> Tensor:
        logits = noise()(tokens, index).clone()
        logits[:, 4:] = -torch.inf
        return logits

    assert run(masked(), predict).max() < 4


class Interrupt(Exception):
    """As hosts raise it: an `Exception`, not a `BaseException`."""


@pytest.mark.parametrize("error", [Interrupt("stop"), KeyboardInterrupt(), ValueError("mine")])
def test_what_on_step_raises_passes_through(error: BaseException) -> None:
    seen = []

    def on_step(step: Step) -> None:
        seen.append(step.index)
        if step.index == 2:
            raise error

    with pytest.raises(type(error)) as caught:
        run(masked(), noise(), on_step=on_step)
    assert caught.value is error and seen == [0, 1, 2]


def test_what_predict_raises_passes_through() -> None:
    def predict(tokens: Tensor, index: int) -> Tensor:
        raise Interrupt("stop")

    with pytest.raises(Interrupt):
        run(masked(), predict)


@pytest.mark.parametrize("shared", [False, True])
def test_a_pure_function(shared: bool) -> None:
    def once() -> Tensor:
        return run(masked(2), noise(), draws=SharedDraws(seeded(7)) if shared else PerImageDraws([7, 8]))

    before = torch.get_rng_state()
    first = once()
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    assert torch.equal(first, once())


def test_the_surest_come_first() -> None:
    """Without noise, the cells whose draw is certain are kept before those that are not."""

    def predict(tokens: Tensor, index: int) -> Tensor:
        logits = torch.zeros(1, CODES, 8, 8)
        logits[:, 5, :4] = 50.0
        return logits

    steps: list[Step] = []
    sample(
        masked(), masked_only(predict), Schedule.named("linear", 2), PerImageDraws([0]),
        mask_token_id=MASK, temperature=(0.0, 0.0), on_step=steps.append,
    )  # fmt: skip
    first = steps[0].tokens[0]
    assert (first[:4] == 5).all()


def test_start_counts() -> None:
    tokens = torch.zeros(2, 8, 8, dtype=torch.int64)
    region = torch.zeros(2, 8, 8, dtype=torch.bool)
    region[1, :2] = True
    out = start_tokens(tokens, 0.5, PerImageDraws([0, 1]), MASK)
    assert (out == MASK).flatten(1).sum(-1).tolist() == [32, 32]
    out = start_tokens(tokens, 0.5, PerImageDraws([0, 1]), MASK, region)
    assert (out == MASK).flatten(1).sum(-1).tolist() == [0, 8] and (tokens == 0).all()


def test_guide() -> None:
    uncond, cond = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.5])
    assert guide(uncond, cond, 1.0).tolist() == [3.0, 2.5]
    assert guide(uncond, cond, 0.0).tolist() == [1.0, 2.0]
    assert guide(uncond, cond, 4.0).tolist() == [9.0, 4.0]
