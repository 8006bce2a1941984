"""Randomness of a pipeline call: torch's own, one generator for the batch, or one for each picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ..errors import AmusedError, quoted
from ..sampling.randomness import Draws, SharedDraws, soonest


class RowDraws:
    """One generator for each picture: picture i is what diffusers draws from generator i alone."""

    def __init__(self, generators: Sequence[Generator]) -> None:
        self._rows = [SharedDraws(generator) for generator in generators]

    def cells(self, eligible: Tensor, ratio: Tensor) -> Tensor:
        """See `Draws`."""
        return torch.cat([row.cells(part, ratio) for row, part in zip(self._rows, eligible.split(1), strict=True)])

    def codes(self, probs: Tensor, cells: Tensor, shape: torch.Size) -> Tensor:
        """See `Draws`."""
        noise = torch.cat([row.exponential(shape[1], probs) for row in self._rows])
        return soonest(probs, noise, cells)

    def gumbel(self, like: Tensor) -> Tensor:
        """See `Draws`."""
        return torch.cat([row.gumbel(part) for row, part in zip(self._rows, like.split(1), strict=True)])

    def seeds(self, batch: int) -> list[int]:
        """See `Draws`."""
        return [row.seeds(1)[0] for row in self._rows]


def draws_of(generator: Generator | Sequence[Generator] | None, batch: int) -> Draws:
    """The draws of a call for `batch` pictures.

    Raises:
        AmusedError: a list of another length than `batch`, or something that is no generator.
    """
    if generator is None or isinstance(generator, Generator):
        return SharedDraws(generator)
    generators = list(generator) if isinstance(generator, (list, tuple)) else [generator]
    if not all(isinstance(item, Generator) for item in generators):
        raise AmusedError(f"generator is {quoted(generator)}; allowed are a torch.Generator, a list of them, or None.")
    if len(generators) != batch:
        raise AmusedError(
            f"generator is a list of {len(generators)}, but {batch} images are requested; give one generator for each."
        )
    return RowDraws(generators)
