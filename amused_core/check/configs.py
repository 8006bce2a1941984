"""Configs beside those of the published checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..checkpoint import Checkpoint
from ..errors import quoted
from ..families.published import PUBLISHED
from .findings import Finding, listed

# The sizes that make a checkpoint one of the published architecture, whatever else its configs say.
_SIZES = ("hidden_size", "num_hidden_layers", "codebook_size", "downsample")
_MISSING = "missing"


def published_name(checkpoint: Checkpoint) -> str | None:
    """The published checkpoint whose transformer has these sizes, "amused-256" or "amused-512"; else None."""
    config = checkpoint.config("transformer")
    return next(
        (
            name
            for name, parts in PUBLISHED.items()
            if all(config.get(size) == parts["transformer"][size] for size in _SIZES)
        ),
        None,
    )


def config_findings(checkpoint: Checkpoint) -> list[Finding]:
    """One finding for each part's config."""
    name = published_name(checkpoint)
    if name is None:
        return [Finding("configs", None, "of its own sizes, not those of a published model")]
    return [_compared(part, checkpoint.config(part), config, name) for part, config in PUBLISHED[name].items()]


def _compared(part: str, config: Mapping[str, Any], published: Mapping[str, Any], name: str) -> Finding:
    different = [
        f"{key} is {_shown(config.get(key, _MISSING))} instead of {_shown(value)}"
        for key, value in published.items()
        if config.get(key, _MISSING) != value
    ]
    result = listed(different) if different else f"the {len(published)} values of {name}"
    return Finding(f"{part} config", not different, result)


def _shown(value: Any) -> str:
    return _MISSING if value is _MISSING else quoted(value)
