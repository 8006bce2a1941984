"""Names of the small world, and seeded generators."""

from __future__ import annotations

import torch

from amused_core.small_world.scenes.things import BACKGROUNDS, THINGS

COLOURS = list(BACKGROUNDS)
NAMES = [thing.name for thing in THINGS]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
