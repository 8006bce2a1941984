"""The codebook of the VQ-GAN: k-means start, exponential moving averages, re-seeding of unused codes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

_DECAY = 0.993
_DEAD = 0.02  # a code that catches fewer latents per step than this is moved


def nearest(latents: Tensor, codes: Tensor) -> Tensor:
    """Index of the nearest code for every row: `latents` `[N, D]`, `codes` `[K, D]` -> int64 `[N]`."""
    return (codes.square().sum(1) - 2 * latents @ codes.t()).argmin(1)


def _rows(latents: Tensor) -> Tensor:
    return latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])


class Codebook:
    """Keeps `weight` (`[K, D]`, changed in place) at the running mean of the latents that choose each code."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.ready = False
        self.counts = torch.ones(len(weight))
        self.sums = weight.detach().clone()

    @torch.no_grad()
    def start(self, latents: Tensor, generator: Generator, rounds: int = 25, limit: int = 15000) -> None:
        """Place the codes by k-means on `latents` `[B, D, h, w]`."""
        rows = _rows(latents)
        rows = rows[torch.randperm(len(rows), generator=generator)[:limit]]
        codes = rows[torch.randint(len(rows), (len(self.weight),), generator=generator)]
        codes = codes + 0.01 * rows.std(0) * torch.randn(codes.shape, generator=generator)
        for _ in range(rounds):
            sums, counts = self._collect(rows, codes)
            used = counts > 0
            codes[used] = sums[used] / counts[used, None]
        self.weight.copy_(codes)
        self.counts = counts.clamp_min(1.0) / counts.mean()
        self.sums = codes * self.counts[:, None]
        self.ready = True

    @staticmethod
    def _collect(rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        index = nearest(rows, codes)
        sums = torch.zeros_like(codes).index_add_(0, index, rows)
        return sums, torch.bincount(index, minlength=len(codes)).float()

    def quantise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """`(straight-through codes, commitment loss)` of `latents` `[B, D, h, w]`; the loss in units of variance."""
        rows = _rows(latents)
        codes = self.weight[nearest(rows.detach(), self.weight)]
        codes = codes.reshape(latents.shape[0], *latents.shape[2:], -1).permute(0, 3, 1, 2)
        commit = F.mse_loss(latents, codes.detach()) / latents.detach().var().clamp_min(1e-6)
        return latents + (codes - latents).detach(), commit

    @torch.no_grad()
    def update(self, latents: Tensor) -> None:
        """Move every code a little towards the mean of the latents that chose it."""
        sums, counts = self._collect(_rows(latents), self.weight)
        self.counts.mul_(_DECAY).add_(counts, alpha=1 - _DECAY)
        self.sums.mul_(_DECAY).add_(sums, alpha=1 - _DECAY)
        self.weight.copy_(self.sums / self.counts.clamp_min(1e-5)[:, None])

    @torch.no_grad()
    def reseed(self, latents: Tensor, generator: Generator) -> None:
        """Put codes that are no longer used onto random latents of this batch."""
        dead = (self.counts < _DEAD).nonzero()[:, 0]
        rows = _rows(latents)
        dead = dead[: len(rows) // 4]
        fresh = rows[torch.randperm(len(rows), generator=generator)[: len(dead)]]
        mean = self.counts.mean()
        self.weight[dead], self.counts[dead], self.sums[dead] = fresh, mean, fresh * mean

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The running statistics, for a checkpoint."""
        ready = torch.tensor([self.ready])
        return {f"{prefix}.counts": self.counts, f"{prefix}.sums": self.sums, f"{prefix}.ready": ready}

    def load(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Undo `tensors`; the codes themselves are loaded with the model."""
        self.counts, self.sums = tensors[f"{prefix}.counts"].clone(), tensors[f"{prefix}.sums"].clone()
        self.ready = bool(tensors[f"{prefix}.ready"])
