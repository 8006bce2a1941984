"""The rule choose-then-sample, its hybrid with Halton order, and what follows from their derivation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from amused_core.sampling.loop import Step, sample
from amused_core.sampling.randomness import PerImageDraws, SharedDraws, seeded
from amused_core.sampling.rules import RULES
from amused_core.sampling.rules.halton import halton_order
from amused_core.sampling.schedule import Schedule
from tests.core.fakes import masked_only

MASK = 99
# Three cells with three codes, from nearly sure to open.
PROBS = torch.tensor([[0.8, 0.15, 0.05], [0.5, 0.3, 0.2], [0.34, 0.33, 0.33]])
PICTURES = 40_000


def first_decided(order: str, temperature: float) -> Tensor:
    """How often the first of two steps decides each cell with each code: fp32 [3,3], sums to 1."""
    seen: list[Step] = []
    logits = PROBS.log().T.view(1, 3, 1, 3)
    sample(
        torch.full((PICTURES, 1, 3), MASK), masked_only(lambda tokens, index: logits),
        Schedule.from_ratios(torch.tensor([1.0, 0.7, 0.0])), SharedDraws(seeded(0)),
        mask_token_id=MASK, temperature=(temperature, temperature), rule=RULES[order], on_step=seen.append,
    )  # fmt: skip
    grid = seen[0].tokens[:, 0]
    assert ((grid != MASK).sum(-1) == 1).all()
    return torch.stack([(grid == code).float().mean(0) for code in range(3)], 1)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_cells_and_codes_are_drawn_from_the_power_of_the_probabilities(temperature: float) -> None:
    """P(cell i with code x) = p_i(x)^b / sum of all such, b = 1 + 1 / temperature."""
    wanted = PROBS ** (1 + 1 / temperature)
    wanted = wanted / wanted.sum()
    # Three standard errors of the likeliest; 40,000 pictures.
    torch.testing.assert_close(first_decided("choose-then-sample", temperature), wanted, atol=0.0075, rtol=0)


def test_a_temperature_of_0_decides_the_likeliest_code_of_the_most_certain_cell() -> None:
    assert first_decided("choose-then-sample", 0.0)[0, 0] == 1


def test_the_hybrid_begins_with_the_models_own_probabilities() -> None:
    """In Halton order each cell is first as often, and its code has no temperature of its own."""
    torch.testing.assert_close(first_decided("hybrid", 0.25), PROBS / 3, atol=0.0075, rtol=0)


def test_the_last_step_draws_from_the_models_own_probabilities() -> None:
    """It decides every cell, so nothing was chosen that a temperature could come from."""
    logits = PROBS.log().T.view(1, 3, 1, 3)
    grid = sample(
        torch.full((PICTURES, 1, 3), MASK), masked_only(lambda tokens, index: logits),
        Schedule.named("linear", 1), SharedDraws(seeded(0)),
        mask_token_id=MASK, temperature=(0.25, 0.25), rule=RULES["choose-then-sample"],
    )[:, 0]  # fmt: skip
    found = torch.stack([(grid == code).float().mean(0) for code in range(3)], 1)
    torch.testing.assert_close(found, PROBS, atol=0.0075, rtol=0)


def test_many_cells_are_chosen_as_maskgit_chooses_them() -> None:
    """Of many alike cells both rules first decide the same codes (Hayakawa et al. 2025): a temperature of 1 / b."""
    logits, shares = PROBS[1].log().view(1, 3, 1, 1).expand(1, 3, 32, 32), {}
    for order in ("confidence", "choose-then-sample"):
        seen: list[Step] = []
        sample(
            torch.full((40, 32, 32), MASK), masked_only(lambda tokens, index: logits),
            Schedule.from_ratios(torch.tensor([1.0, 0.99, 0.0])), SharedDraws(seeded(0)),
            mask_token_id=MASK, temperature=(1.0, 1.0), rule=RULES[order], on_step=seen.append,
        )  # fmt: skip
        grid = seen[0].tokens
        shares[order] = torch.stack([(grid == code).float().sum() for code in range(3)]) / (grid != MASK).sum()
    squares = PROBS[1] ** 2 / (PROBS[1] ** 2).sum()
    for share in shares.values():
        torch.testing.assert_close(share, squares, atol=0.06, rtol=0)


def test_the_hybrid_switches_in_the_middle_of_the_schedule() -> None:
    """Before, cells follow each other in Halton order; after, those of the lower half come last: they are open."""
    seen: list[Step] = []

    def model(tokens: Tensor, index: int) -> Tensor:
        logits = torch.zeros(1, 4, 8, 8)
        logits[:, 1, :4] = 9.0
        return logits

    sample(
        torch.full((1, 8, 8), MASK), masked_only(model), Schedule.named("linear", 4), PerImageDraws([3]),
        mask_token_id=MASK, temperature=(0.1, 0.1), rule=RULES["hybrid"], on_step=seen.append,
    )  # fmt: skip
    order, decided = halton_order(8, 8), (seen[1].tokens != MASK).flatten()
    changes = (decided[order] != decided[order].roll(1)).sum()
    assert changes == 2, "one stretch of the order"
    assert (seen[2].tokens[:, :4] == 1).all() and (seen[2].tokens[:, 4:] == MASK).any()
