"""Where the randomness of sampling comes from: one stream for the batch, or one for each picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

SEEDINGS = ("per_image", "diffusers")
MAX_SEED = 2**64 - 1
# Cells whose codes are drawn together: 8 MB of probabilities with 8192 codes.
AT_ONCE = 256


class Draws(Protocol):
    """The three random choices of a masked-token sampler, for a batch of B grids of N cells.

    None waits for the device: what is drawn elsewhere is sent there.
    """

    def cells(self, eligible: Tensor, ratio: Tensor) -> Tensor:
        """Which of the `eligible` cells (bool [B,N]) to mask, a share `ratio` (fp32 scalar) of them -> bool [B,N]."""

    def codes(self, probs: Tensor, cells: Tensor, shape: torch.Size) -> Tensor:
        """One code for each of n cells from `probs` fp32 [n,K] -> int64 [n].

        `cells` int64 [n], on the device of `probs`, are their places in the flattened grids of `shape` (B,N).
        """

    def gumbel(self, like: Tensor) -> Tensor:
        """Standard Gumbel noise, fp32 [B,N], on the device of `like` [B,N]."""

    def seeds(self, batch: int) -> list[int]:
        """A number for each of `batch` pictures, 0 to 2**64 - 1, that stays the same over a run; draws nothing."""


class SharedDraws:
    """One generator for the whole batch, consumed exactly as diffusers' aMUSEd pipelines do.

    Picture i therefore depends on the size of the batch. `generator` None is torch's global one, as in diffusers.
    """

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator
        self._noise: Tensor | None = None

    def cells(self, eligible: Tensor, ratio: Tensor) -> Tensor:
        """Each cell by itself with probability `ratio` (`AmusedScheduler.add_noise`)."""
        return (self._uniform(eligible) < ratio.to(eligible.device)) & eligible

    def codes(self, probs: Tensor, cells: Tensor, shape: torch.Size) -> Tensor:
        """What `torch.multinomial` over every cell would draw; known cells use up their part of the stream, too."""
        return soonest(probs, self.exponential(shape.numel(), probs), cells)

    def gumbel(self, like: Tensor) -> Tensor:
        """`AmusedScheduler`'s `gumbel_noise`."""
        return _gumbel(self._uniform(like))

    def seeds(self, batch: int) -> list[int]:
        """The generator's seed, counted up."""
        first = (self.generator or torch.default_generator).initial_seed()
        return [(first + index) % 2**64 for index in range(batch)]

    def exponential(self, count: int, probs: Tensor) -> Tensor:
        """Exponential noise for `count` cells, fp32 [count,K], beside `probs` [n,K]; written over by the next call."""
        shape = (count, probs.shape[-1])
        if self._noise is None or self._noise.shape != shape:
            self._noise = torch.empty(shape, device=self._device(probs))
        return _send(self._noise.exponential_(generator=self.generator), probs.device)

    def _uniform(self, like: Tensor) -> Tensor:
        device = self._device(like)
        return _send(torch.rand(like.shape, generator=self.generator, device=device), like.device)

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
        rank = self._uniform(eligible.shape, eligible.device).masked_fill(~eligible, 2.0).argsort(-1).argsort(-1)
        return (rank < wanted) & eligible

    def codes(self, probs: Tensor, cells: Tensor, shape: torch.Size) -> Tensor:
        """Inverse transform sampling with one uniform number per cell."""
        uniform = self._uniform(shape, probs.device).flatten()[cells]
        cumulative = probs.cumsum(-1)
        target = uniform[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=probs.shape[-1] - 1)

    def gumbel(self, like: Tensor) -> Tensor:
        """Gumbel noise from each picture's own stream."""
        return _gumbel(self._uniform(like.shape, like.device))

    def seeds(self, batch: int) -> list[int]:
        """The seeds of the generators."""
        return [generator.initial_seed() for generator in self.generators]

    def _uniform(self, shape: torch.Size, device: torch.device) -> Tensor:
        rows = [torch.rand(shape[1:], generator=g, device=g.device) for g in self.generators]
        return torch.stack([_send(row, device) for row in rows])


def seeded(seed: int) -> torch.Generator:
    """A CPU generator seeded with `seed`, 0 to 2**64 - 1; torch itself uses its low 32 bits only."""
    return torch.Generator("cpu").manual_seed(seed)


def soonest(probs: Tensor, noise: Tensor, cells: Tensor) -> Tensor:
    """The code of each cell that comes first when `noise` fp32 [N,K] are waiting times at rates `probs` [n,K].

    That is a draw from `probs`, and how `torch.multinomial` does it. A few cells at a time stay within a CPU's cache.
    """
    parts = zip(probs.split(AT_ONCE), cells.split(AT_ONCE), strict=True)
    return torch.cat([(part / noise[places]).argmax(-1) for part, places in parts])


def _send(noise: Tensor, device: torch.device) -> Tensor:
    # Without waiting for what the device is at; MPS would read memory that is another's by then.
    return noise.to(device, non_blocking=device.type == "cuda")


def _gumbel(uniform: Tensor) -> Tensor:
    return -torch.log((-torch.log(uniform.clamp(1e-20))).clamp(1e-20))
