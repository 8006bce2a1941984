"""Revision: decided tokens that are masked again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from amused_core import AmusedModel
from amused_core.insight import trace
from amused_core.insight.maps import order_map
from amused_core.sampling.loop import Step, sample
from amused_core.sampling.randomness import Draws, PerImageDraws, SharedDraws, seeded
from amused_core.sampling.rules import RULES
from amused_core.sampling.rules.revision import revised
from amused_core.sampling.schedule import Schedule
from tests.core.fakes import masked_only

CODES, MASK = 16, 99
FIXED = [order for order in RULES if order != "entropy"]


def noise(tokens: Tensor, index: int) -> Tensor:
    return torch.randn(1, CODES, *tokens.shape[1:], generator=seeded(index)) * 3


def run(order: str, start: Tensor, revision: float, draws: Draws | None = None, steps: int = 8, **more) -> list[Step]:
    seen: list[Step] = []
    draws = draws or PerImageDraws(range(len(start)))
    schedule = more.pop("schedule", None) or Schedule.named("cosine", steps)
    settings = {"mask_token_id": MASK, "temperature": (2.0, 0.0), "rule": revised(RULES[order], revision)}
    sample(start, masked_only(noise), schedule, draws, on_step=seen.append, **settings, **more)
    return seen


def masked_again(seen: list[Step]) -> list[Tensor]:
    """bool [B,h,w] for each step but the first: cells that it masked although an earlier one had decided them."""
    return [(now.tokens == MASK) & (before.tokens != MASK) for before, now in zip(seen, seen[1:], strict=False)]


@pytest.mark.parametrize("order", FIXED)
@pytest.mark.parametrize("revision", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(16, 16), (32, 32), (5, 7)])
def test_the_count_stays_the_schedules(order: str, revision: float, shape: tuple[int, int]) -> None:
    seen = run(order, torch.full((2, *shape), MASK), revision)
    size, schedule = shape[0] * shape[1], Schedule.named("cosine", 8)
    counts = [(step.tokens == MASK).flatten(1).sum(-1).tolist() for step in seen]
    wanted = [int(size * ratio) for ratio in schedule.ratios[1:]]
    assert counts == [[n, n] for n in wanted]
    for index, again in enumerate(masked_again(seen)):
        decided, left = size - wanted[index], wanted[index + 1]
        expected = min(int(revision * decided), max(left - 1, 0))
        assert again.flatten(1).sum(-1).tolist() == [expected] * 2


@pytest.mark.parametrize("order", RULES)
@pytest.mark.parametrize("shared", [False, True])
def test_known_tokens_never_change_and_everything_is_decided(order: str, shared: bool) -> None:
    tokens = torch.randint(0, CODES, (3, 8, 8), generator=seeded(1))
    known = torch.rand(3, 8, 8, generator=seeded(2)) < torch.tensor([0.0, 0.5, 0.9])[:, None, None]
    draws = SharedDraws(seeded(0)) if shared else PerImageDraws([4, 5, 6])
    seen = run(order, torch.where(known, tokens, MASK), 1.0, draws, region=~known)
    assert len(seen) <= 8 and seen[-1].tokens.max() < CODES
    assert all(torch.equal(step.tokens[known], tokens[known]) for step in seen)


@pytest.mark.parametrize("order", RULES)
def test_a_picture_in_a_batch_is_the_picture_alone(order: str) -> None:
    region = torch.rand(3, 8, 8, generator=seeded(0)) < torch.tensor([0.1, 0.5, 1.0])[:, None, None]
    start = torch.where(region, MASK, 3)
    batch = run(order, start, 0.3, PerImageDraws([4, 5, 6]), region=region)
    for i in range(3):
        alone = run(order, start[i : i + 1], 0.3, PerImageDraws([4 + i]), region=region[i : i + 1])
        assert torch.equal(alone[-1].tokens[0], batch[-1].tokens[i])


def test_each_decided_token_is_masked_again_as_often() -> None:
    """Which were decided first does not matter."""
    seen = run(
        "random", torch.full((4000, 1, 32), MASK), 0.5, SharedDraws(seeded(0)), schedule=Schedule.named("linear", 4)
    )
    decided, again = seen[1].tokens != MASK, masked_again(seen)[1]
    shares = (again & decided).sum(0) / decided.sum(0)
    count = min(16 // 2, 8 - 1)
    # Four standard errors of a share of 7/16 in 2000 pictures.
    torch.testing.assert_close(shares, torch.full((1, 32), count / 16), atol=0.045, rtol=0)


def test_a_second_sampler_keeps_what_the_first_has_decided() -> None:
    whole = Schedule.named("cosine", 8)
    first = run("confidence", torch.full((1, 8, 8), MASK), 0.5, schedule=Schedule.from_ratios(whole.ratios[:5]))
    half = first[-1].tokens
    second = run("confidence", half, 0.5, schedule=Schedule.from_ratios(whole.ratios[4:]))
    assert any(again.any() for again in masked_again(second))
    assert all(torch.equal(step.tokens[half != MASK], half[half != MASK]) for step in second)


def test_0_is_the_rule_itself() -> None:
    assert revised(RULES["halton"], 0.0) is RULES["halton"]


def test_revision_reaches_the_run_and_its_record(model: AmusedModel) -> None:
    result, record = trace(model, "a cat", steps=6, seed=3, revision=0.5)
    plain, _ = trace(model, "a cat", steps=6, seed=3)
    assert result.settings[0]["revision"] == 0.5 and not torch.equal(result.tokens, plain.tokens)
    undecided = record.tokens == -1
    assert (undecided[1:] & ~undecided[:-1]).any(), "some cell was masked again"
    order = order_map(record)
    for step in range(1, record.steps + 1):
        cells = order == step
        assert undecided[step - 1][cells].all() and not undecided[step:, cells].any()
