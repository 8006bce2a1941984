"""Random numbers of training steps."""

from __future__ import annotations

from torch import Generator


def step_generator(seed: int, step: int) -> Generator:
    """The random generator of one step. A step depends only on (seed, step), so a resumed run sees the same data."""
    return Generator().manual_seed((seed * 1_000_003 + step + 1) * 2_654_435_761 % 2**63)
