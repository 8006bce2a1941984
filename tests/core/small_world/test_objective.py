"""Training of the small world: masks and loss."""

from __future__ import annotations

import pytest
import torch

from amused_core.sampling.step_generator import step_generator
from amused_core.sampling.training_masks import mask_ratio, random_mask
from amused_core.small_world.training import objective


def test_mask_ratio_is_the_cosine_from_one_to_zero():
    ratio = mask_ratio(torch.tensor([0.0, 2 / 3, 1.0]))
    assert torch.allclose(ratio, torch.tensor([1.0, 0.5, 0.0]), atol=1e-6)


@pytest.mark.parametrize("ratio, count", [(0.0, 1), (0.25, 16), (1.0, 64)])
def test_random_mask_has_exactly_the_ratio_and_never_none(ratio, count):
    assert random_mask(8, 8, ratio, step_generator(0, 0)).sum() == count


def test_block_masks_are_rectangles_of_at_least_a_quarter():
    for step in range(50):
        mask = objective.block_mask(8, 12, step_generator(0, step))
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum() and rows.sum() >= 2 and columns.sum() >= 3
        for line in (rows, columns):  # one run without a gap
            assert line.int().diff().abs().sum() <= 2


def test_a_fair_part_of_the_masks_is_whole_and_the_mean_ratio_is_near_the_cosine_mean():
    masks = objective.sample_masks([0.1] * 2000, 8, 8, step_generator(0, 1)).flatten(1).float().mean(1)
    assert 0.08 < (masks == 1).float().mean() < 0.2
    assert 0.55 < masks.mean() < 0.7
    assert masks.min() > 0


def test_only_masked_positions_count():
    generator = step_generator(0, 2)
    logits, ids = torch.randn(2, 5, 4, 4, generator=generator), torch.randint(5, (2, 4, 4), generator=generator)
    mask = objective.sample_masks([0.1] * 2, 4, 4, generator)
    mask[0, 0, 0], mask[0, 1, 1] = False, True
    loss, each, _ = objective.masked_loss(logits, ids, mask)
    shown, hidden = logits.clone(), logits.clone()
    shown[0, :, 0, 0] += torch.arange(5) * 9.0
    hidden[0, :, 1, 1] += torch.arange(5) * 9.0
    assert objective.masked_loss(shown, ids, mask)[0] == loss
    changed = objective.masked_loss(hidden, ids, mask)
    assert changed[0] != loss and changed[1][0] != each[0] and changed[1][1] == each[1]
    counts = mask.flatten(1).sum(1)
    assert torch.allclose((each * counts).sum() / counts.sum(), loss)


def test_accuracy_is_the_share_of_right_likeliest_tokens():
    logits = torch.zeros(1, 3, 1, 4)
    logits[0, 1] = 1.0
    ids, mask = torch.tensor([[[1, 1, 2, 0]]]), torch.tensor([[[True, True, True, False]]])
    assert objective.masked_loss(logits, ids, mask)[2] == pytest.approx(2 / 3)


def test_code_weights_lower_only_what_is_far_too_frequent():
    ids = torch.cat([torch.zeros(200), torch.arange(1, 10).repeat(10)]).long()
    weights = objective.code_weights(ids, 10, limit=2.0)
    assert weights[0] == pytest.approx(2 * 29 / 200) and (weights[1:] == 1).all()
    logits, mask = torch.zeros(1, 10, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool)
    logits[0, 3, 0, 1] = 5.0
    pair = torch.tensor([[[0, 3]]])
    assert objective.masked_loss(logits, pair, mask, weights)[0] < objective.masked_loss(logits, pair, mask)[0]
