"""Unmasking rules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from amused_core import AmusedError, AmusedModel, Step
from amused_core.sampling.loop import sample
from amused_core.sampling.randomness import Draws, PerImageDraws, SharedDraws, seeded
from amused_core.sampling.rules import RULES, Guess, Rule, rule_named
from amused_core.sampling.rules.halton import halton_order
from amused_core.sampling.schedule import Schedule
from tests.core.fakes import Grid, masked_only

CODES, MASK = 16, 99
SHAPES = [(8, 8), (16, 16), (5, 7), (1, 9), (13, 4), (64, 64)]


def noise(tokens: Tensor, index: int) -> Tensor:
    """Logits that differ from cell to cell and from step to step."""
    return torch.randn(1, CODES, *tokens.shape[1:], generator=seeded(index)) * 3


def certain(tokens: Tensor, index: int) -> Tensor:
    """A model that knows every token."""
    logits = torch.zeros(1, CODES, *tokens.shape[1:])
    logits[:, 5] = 100.0
    return logits


def run(order: str | Rule, tokens: Tensor, model: Grid = noise, steps: int = 8, draws: Draws | None = None, **more):
    rule = RULES[order] if isinstance(order, str) else order
    draws = draws or PerImageDraws(range(len(tokens)))
    schedule = more.pop("schedule", None) or Schedule.named("cosine", steps)
    settings = {"mask_token_id": MASK, "temperature": (2.0, 0.0), "rule": rule}
    return sample(tokens, masked_only(model), schedule, draws, **settings, **more)


@pytest.mark.parametrize("order", RULES)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (1, 1), (1, 2)])
def test_everything_is_decided_and_known_tokens_stay(order: str, shared: bool, shape: tuple[int, int]) -> None:
    tokens = torch.randint(0, CODES, (3, *shape), generator=seeded(1))
    known = torch.rand(3, *shape, generator=seeded(2)) < torch.tensor([0.0, 0.5, 0.9])[:, None, None]
    seen: list[Step] = []
    draws = SharedDraws(seeded(0)) if shared else PerImageDraws([4, 5, 6])
    out = run(order, torch.where(known, tokens, MASK), draws=draws, on_step=seen.append)
    assert out.max() < CODES and len(seen) <= 8
    for grid in (out, *(step.tokens for step in seen)):
        assert torch.equal(grid[known], tokens[known])


@pytest.mark.parametrize("order", [order for order in RULES if order != "entropy"])
def test_the_schedule_says_how_many_stay_masked(order: str) -> None:
    seen: list[Step] = []
    run(order, torch.full((2, 8, 8), MASK), on_step=seen.append)
    wanted = [int(64 * ratio) for ratio in Schedule.named("cosine", 8).ratios[1:]]
    assert [(step.tokens == MASK).flatten(1).sum(-1).tolist() for step in seen] == [[n, n] for n in wanted]


@pytest.mark.parametrize("order", RULES)
def test_a_picture_in_a_batch_is_the_picture_alone(order: str) -> None:
    region = torch.rand(3, 8, 8, generator=seeded(0)) < torch.tensor([0.1, 0.5, 1.0])[:, None, None]
    start = torch.where(region, MASK, 3)
    batch = run(order, start, region=region, draws=PerImageDraws([4, 5, 6]))
    for i in range(3):
        alone = run(order, start[i : i + 1], region=region[i : i + 1], draws=PerImageDraws([4 + i]))
        assert torch.equal(alone[0], batch[i])


@pytest.mark.parametrize("order", RULES)
def test_a_split_run_is_the_whole_one(order: str) -> None:
    whole = Schedule.named("cosine", 12)
    draws, calls = PerImageDraws([3]), []

    def model(tokens: Tensor, index: int) -> Tensor:
        calls.append(index)
        return noise(tokens, len(calls))

    half = run(order, torch.full((1, 8, 8), MASK), model, schedule=Schedule.from_ratios(whole.ratios[:7]), draws=draws)
    split = run(order, half, model, schedule=Schedule.from_ratios(whole.ratios[6:]), draws=draws)
    calls.clear()
    assert torch.equal(split, run(order, torch.full((1, 8, 8), MASK), model, schedule=whole, draws=PerImageDraws([3])))


@pytest.mark.parametrize("shape", SHAPES)
def test_halton_covers_every_cell(shape: tuple[int, int]) -> None:
    assert sorted(halton_order(*shape).tolist()) == list(range(shape[0] * shape[1]))


def test_halton_begins_as_the_sequence_does() -> None:
    """Points (1/2,1/3), (1/4,2/3), (3/4,1/9), (1/8,4/9) of an 8x9 grid."""
    assert halton_order(8, 9)[:4].tolist() == [4 * 9 + 3, 2 * 9 + 6, 6 * 9 + 1, 1 * 9 + 4]


def test_halton_decides_in_order_from_a_place_of_its_own() -> None:
    seen: list[Step] = []
    run("halton", torch.full((4, 8, 8), MASK), on_step=seen.append)
    order, firsts = halton_order(8, 8).tolist(), set()
    decided = [(step.tokens != MASK).flatten(1) for step in seen]
    for picture in range(4):
        first = {cell for cell in range(64) if decided[1][picture][cell]}
        starts = [s for s in range(64) if {order[(s + i) % 64] for i in range(len(first))} == first]
        assert len(starts) == 1
        firsts |= set(starts)
    assert len(firsts) > 1


def test_entropy_ends_early_where_the_model_is_certain() -> None:
    seen: list[Step] = []
    out = run("entropy", torch.full((1, 8, 8), MASK), certain, on_step=seen.append)
    assert len(seen) == 1 and (out == 5).all()


def test_entropy_decides_the_most_certain_first() -> None:
    """The upper half is certain; the lower half has an entropy of log 16 in each cell, too much to decide together."""

    def model(tokens: Tensor, index: int) -> Tensor:
        logits = torch.zeros(1, CODES, 8, 8)
        logits[:, 5, :4] = 100.0
        return logits

    seen: list[Step] = []
    run(rule_named("entropy", entropy_bound=1.0), torch.full((1, 8, 8), MASK), model, on_step=seen.append)
    first = seen[0].tokens[0]
    # One uncertain cell adds nothing to sum(H) - max(H).
    assert (first[:4] == 5).all() and (first[4:] != MASK).sum() == 1 and len(seen) <= 8


@pytest.mark.parametrize(("bound", "decided"), [(0.0, 4), (1.5, 4), (2.9, 5), (10.0, 15), (1000.0, 64)])
def test_the_bound_says_how_many_more_are_decided(bound: float, decided: int) -> None:
    """Each cell has an entropy of log 2, so k of them reach (k - 1) log 2; the schedule says 4."""
    seen: list[Step] = []

    def model(tokens: Tensor, index: int) -> Tensor:
        logits = torch.full((1, CODES, 8, 8), -100.0)
        logits[:, :2] = 0
        return logits

    schedule = Schedule.from_ratios(torch.tensor([1.0, 60 / 64, 0.0]))
    run(
        rule_named("entropy", entropy_bound=bound),
        torch.full((1, 8, 8), MASK),
        model,
        schedule=schedule,
        on_step=seen.append,
    )
    assert (seen[0].tokens != MASK).sum() == decided


def test_random_is_not_confidence() -> None:
    start = torch.full((1, 8, 8), MASK)
    assert not torch.equal(run("random", start), run("confidence", start))


def everything(guess: Guess, progress, draws) -> Tensor:
    """A rule that would mask every cell again."""
    return torch.ones_like(guess.masked)


@pytest.mark.parametrize("revises", [False, True])
def test_a_rule_is_kept_from_what_it_must_not_mask(revises: bool) -> None:
    """The user's own tokens never; decided ones only where the rule says that it revises."""
    start = torch.where(torch.arange(64).view(1, 8, 8) < 16, 3, MASK)
    seen: list[Step] = []
    run(Rule(everything, revises), start, steps=3, on_step=seen.append)
    assert all((step.tokens[0].flatten()[:16] == 3).all() for step in seen)
    assert [int((step.tokens == MASK).sum()) for step in seen] == [48, 48, 0]


def test_order_reaches_the_run(model: AmusedModel) -> None:
    tokens = {order: model.generate("a cat", order=order, steps=4).tokens for order in RULES}
    assert torch.equal(tokens["confidence"], model.generate("a cat", steps=4).tokens)
    assert not torch.equal(tokens["halton"], tokens["confidence"])
    assert model.generate("a cat", order="halton", steps=1).settings[0]["order"] == "halton"
    with pytest.raises(AmusedError, match=f"order is 'x'; allowed are {', '.join(RULES)}"):
        model.generate("a cat", order="x")
