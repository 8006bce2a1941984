"""The random choices of the sampler: independence, counts and distributions."""

from __future__ import annotations

import pytest
import torch

from amused_core.sampling.randomness import MAX_SEED, PerImageDraws, SharedDraws, seeded

# 99.99 % quantile of chi-square with 15 degrees of freedom: a right sampler fails it for one seed in ten thousand.
CHI_SQUARE_15 = 44.3


def both(seed: int) -> list[PerImageDraws | SharedDraws]:
    return [PerImageDraws([seed]), SharedDraws(seeded(seed))]


@pytest.mark.parametrize("kind", [0, 1], ids=["inverse-cdf", "multinomial"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_codes_follow_the_probabilities(kind: int, seed: int) -> None:
    count = 20000
    probs = torch.linspace(1, 16, 16).softmax(0) * 0.5 + 1 / 32
    codes = both(seed)[kind].codes(probs.expand(count, 16), torch.arange(count), torch.Size([1, count]))
    seen = codes.flatten().bincount(minlength=16)
    assert ((seen - probs * count) ** 2 / (probs * count)).sum() < CHI_SQUARE_15


@pytest.mark.parametrize("kind", [0, 1], ids=["inverse-cdf", "multinomial"])
def test_impossible_codes_are_never_drawn(kind: int) -> None:
    probs = torch.zeros(5000, 9)
    probs[..., [2, 5]] = 0.5
    codes = both(3)[kind].codes(probs, torch.arange(5000), torch.Size([1, 5000]))
    assert set(codes.flatten().tolist()) == {2, 5}


def test_the_largest_uniform_number_draws_a_possible_code() -> None:
    """1 - 2**-24 times the sum may round up to the sum; the codes after it have no probability."""

    class Highest(PerImageDraws):
        def _uniform(self, shape: torch.Size, device: torch.device) -> torch.Tensor:
            return torch.full(shape, 1 - 2**-24)

    probs = torch.rand(512, 64, generator=seeded(0))
    probs[..., 40:] = 0
    codes = Highest([0]).codes(probs / probs.sum(-1, keepdim=True), torch.arange(512), torch.Size([1, 512]))
    assert codes.max() < 40


@pytest.mark.parametrize("kind", [0, 1], ids=["inverse-cdf", "multinomial"])
def test_a_cell_gets_its_code_whatever_the_others_do(kind: int) -> None:
    probs, some = torch.rand(40, 8, generator=seeded(0)).softmax(-1), torch.tensor([3, 4, 9, 38])
    every = both(0)[kind].codes(probs, torch.arange(40), torch.Size([1, 40]))
    assert torch.equal(both(0)[kind].codes(probs[some], some, torch.Size([1, 40])), every[some])


def test_each_picture_has_its_own_stream() -> None:
    like, probs = torch.empty(3, 64), torch.ones(3 * 64, 16) / 16
    unknown = torch.ones(3, 64, dtype=torch.bool)
    batch = PerImageDraws([5, 6, 7])
    codes = batch.gumbel(like), batch.codes(probs, torch.arange(3 * 64), like.shape).view(3, 64)
    together = [*codes, batch.cells(unknown, torch.tensor(0.5))]
    for row, seed in enumerate([5, 6, 7]):
        one = PerImageDraws([seed])
        alone = [
            one.gumbel(like[:1]),
            one.codes(probs[:64], torch.arange(64), like[:1].shape)[None],
            one.cells(unknown[:1], torch.tensor(0.5)),
        ]
        for a, b in zip(alone, together, strict=True):
            assert torch.equal(a[0], b[row])


def test_a_neighbours_known_cells_do_not_shift_a_stream() -> None:
    probs = torch.ones(128, 16) / 16
    cells, shape = torch.arange(128), torch.Size([2, 64])
    all_of_them = PerImageDraws([1, 2]).codes(probs, cells, shape)
    few = PerImageDraws([1, 2]).codes(probs[40:], cells[40:], shape)
    assert torch.equal(all_of_them[-64:], few[-64:])


@pytest.mark.parametrize("ratio", [0.0, 1e-6, 0.1, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("eligible", [0, 1, 7, 63])
def test_exact_count_of_cells(ratio: float, eligible: int) -> None:
    mask = torch.zeros(4, 63, dtype=torch.bool)
    mask[:, :eligible] = True
    chosen = PerImageDraws([0, 1, 2, 3]).cells(mask, torch.tensor(ratio))
    want = min(eligible, max(1, int(eligible * torch.tensor(ratio))))
    assert chosen.sum(-1).tolist() == [want] * 4
    assert not (chosen & ~mask).any()


def test_shared_cells_follow_the_ratio() -> None:
    chosen = SharedDraws(seeded(0)).cells(torch.ones(1, 20000, dtype=torch.bool), torch.tensor(0.3))
    assert abs(chosen.float().mean() - 0.3) < 0.015


def test_every_cell_is_chosen_equally_often() -> None:
    draws = PerImageDraws([0])
    counts = sum(draws.cells(torch.ones(1, 16, dtype=torch.bool), torch.tensor(0.25))[0].long() for _ in range(2000))
    assert (((counts - 500) ** 2) / 500).sum() < CHI_SQUARE_15


def test_gumbel_moments() -> None:
    for draws in both(0):
        noise = draws.gumbel(torch.empty(1, 50000))
        assert torch.isfinite(noise).all() and noise.dtype == torch.float32
        assert abs(noise.mean() - 0.5772) < 0.03 and abs(noise.std() - 1.2825) < 0.03


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32, 2**63 - 1, 2**63, MAX_SEED])
def test_any_seed_repeats(seed: int) -> None:
    like = torch.empty(1, 16)
    assert torch.equal(PerImageDraws([seed]).gumbel(like), PerImageDraws([seed]).gumbel(like))


def test_near_seeds_differ() -> None:
    like = torch.empty(4, 64)
    rows = PerImageDraws([0, 1, 2**31, MAX_SEED]).gumbel(like)
    assert len({tuple(row.tolist()) for row in rows}) == 4


def test_generators_are_taken_as_they_are() -> None:
    like = torch.empty(1, 16)
    assert torch.equal(PerImageDraws([seeded(3)]).gumbel(like), PerImageDraws([3]).gumbel(like))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    for draws in both(0):
        draws.gumbel(torch.empty(1, 8))
        draws.cells(torch.ones(1, 8, dtype=torch.bool), torch.tensor(0.5))
        draws.codes(torch.ones(8, 4) / 4, torch.arange(8), torch.Size([1, 8]))
    assert torch.equal(before, torch.get_rng_state())
