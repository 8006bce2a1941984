"""aMUSEd (Patil et al. 2024)."""

from __future__ import annotations

from typing import Any

from ..networks.uvit import UVit
from ..networks.uvit.config import UVitConfig
from .family import Family


def _recommended(config: UVitConfig) -> dict[str, Any]:
    """What the guidance study of the published models says: 4 for amused-256, 10 for amused-512."""
    return {"cfg": 10.0 if config.downsample else 4.0}


AMUSED = Family(
    name="aMUSEd",
    pipeline="AmusedPipeline",
    classes={"transformer": "UVit2DModel", "vqvae": "VQModel", "scheduler": "AmusedScheduler"},
    read_config=UVitConfig.from_dict,
    transformer=UVit,
    recommended=_recommended,
)
