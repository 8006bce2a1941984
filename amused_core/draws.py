"""Where the randomness of sampling comes from: one stream for the batch, or one for each picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

SEEDINGS = ("per_image", "diffusers")
MAX_SEED = 2**64 - 1


class Draws(Protocol):
    """The three random choices of a masked-token sampler, for a batch of B grids of N cells."""

    def cells(self, eligible: Tensor, ratio: Tensor) -> Tensor:
        """Which of the `eligible` cells (bool [B,N]) to mask, a share `ratio` (fp32 scalar) of them -> bool [B,N]."""

    def codes(self, probs: Tensor, unknown: Tensor) -> Tensor:
        """One code for each of the n `unknown` cells (bool [B,N]) from `probs` fp32 [n,K] -> int64 [n]."""

    def gumbel(self, like: Tensor) -> Tensor:
        """Standard Gumbel noise, fp32 [B,N], on the device of `like` [B,N]."""


class SharedDraws:
    """One generator for the whole batch, consumed exactly as diffusers' aMUSEd pipelines do.

    Picture i therefore depends on the size of the batch. `generator` None is torch's global one, as in diffusers.
    """

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator

    def cells(self, eligible: Tensor, ratio: Tensor) -> Tensor:
        """Each cell by itself with probability `ratio` (`AmusedScheduler.add_noise`)."""
        return (self._uniform(eligible) < ratio.to(eligible.device)) & eligible

    def codes(self, probs: Tensor, unknown: Tensor) -> Tensor:
        """What `torch.multinomial` over every cell would draw; known cells use up their part of the stream, too."""
        device = self._device(probs)
        noise = torch.empty(unknown.numel(), probs.shape[-1], device=device).exponential_(generator=self.generator)
        return (probs.to(device) / noise[unknown.flatten().to(device)]).argmax(-1).to(probs.device)

    def gumbel(self, like: Tensor) -> Tensor:
        """`AmusedScheduler`'s `gumbel_noise`."""
        return _gumbel(self._uniform(like))

    def _uniform(self, like: Tensor) -> Tensor:
        device = self._device(like)
        return torch.rand(like.shape, generator=self.generator, device=device).to(like.device)

    def _device(self, like: Tensor) -> torch.device:
        return like.device if self.generator is None else self.generator.device


class PerImageDraws:
    """One CPU generator for each picture: a picture is the same alone, in any batch, and on any device.

    Args:
        seeds: one seed per picture, 0 to 2**64 - 1, or generators that are already seeded.
    """

    def __init__(self, seeds: Sequence[int | torch.Generator]) -> None:
        self.generators = [seed if isinstance(seed, torch.Generator) else seeded(seed) for seed in seeds]

    def cells(self, eligible: Tensor, ratio: Tensor) -> Tensor:
        """Exactly `floor(ratio * eligible)` cells of each picture, at least one where any is eligible."""
        count = eligible.sum(-1, keepdim=True)
        wanted = (count * ratio.to(count.device)).floor().clamp(min=1).minimum(count).long()
        rank = self._uniform(eligible).masked_fill(~eligible, 2.0).argsort(-1).argsort(-1)
        return (rank < wanted) & eligible

    def codes(self, probs: Tensor, unknown: Tensor) -> Tensor:
        """Inverse transform sampling with one uniform number per cell."""
        uniform = self._uniform(unknown)[unknown]
        cumulative = probs.cumsum(-1)
        target = uniform[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=probs.shape[-1] - 1)

    def gumbel(self, like: Tensor) -> Tensor:
        """Gumbel noise from each picture's own stream."""
        return _gumbel(self._uniform(like))

    def _uniform(self, like: Tensor) -> Tensor:
        rows = [torch.rand(like.shape[1:], generator=g, device=g.device).to(like.device) for g in self.generators]
        return torch.stack(rows)


def seeded(seed: int) -> torch.Generator:
    """A CPU generator seeded with `seed`, 0 to 2**64 - 1; torch itself uses its low 32 bits only."""
    return torch.Generator("cpu").manual_seed(seed)


def _gumbel(uniform: Tensor) -> Tensor:
    return -torch.log((-torch.log(uniform.clamp(1e-20))).clamp(1e-20))
