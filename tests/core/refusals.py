"""What every refusal of bad input must be."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from amused_core import AmusedError, AmusedModel

GOOD: dict[str, Any] = {"prompt": "a cat", "steps": 1, "cfg": 1.0, "seed": 5}


@cache
def good_tokens(model: AmusedModel) -> torch.Tensor:
    """What a good run gave before anything was refused."""
    return model.generate(**GOOD).tokens


def refused(model: AmusedModel, *parts: str, **arguments: Any) -> None:
    """`generate(**arguments)` gives one sentence that holds every part of `parts`, and the next run is as before."""
    before = good_tokens(model)
    with pytest.raises(AmusedError) as caught:
        model.generate(**{**GOOD, **arguments})
    text = str(caught.value)
    for part in parts:
        assert part in text, f"{part!r} is not in {text!r}"
    assert "\n" not in text and text.endswith("."), text
    assert torch.equal(model.generate(**GOOD).tokens, before)
