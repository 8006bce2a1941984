"""Which numbers of prompts, negatives, pictures, masks and seeds fit together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from amused_core import AmusedModel
from tests.core.refusals import refused

IMAGES = torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(0))
MASKS = torch.zeros(3, 32, 32)
MASKS[0, :8], MASKS[1, 16:], MASKS[2, :, :20] = 1, 1, 1
WORDS = ["a cat", "a dog", "an apple"]


def arguments(prompt: int = 1, negative: int = 1, image: int = 0, mask: int = 0, seed: int = 1) -> dict[str, Any]:
    """Arguments with as many of each; 1 is a single item, not a list."""
    made: dict[str, Any] = {"prompt": WORDS[:prompt], "negative_prompt": ["x", "y", "z"][:negative]}
    made["seed"] = [7, 3, 9][:seed]
    made = {name: value[0] if len(value) == 1 else value for name, value in made.items()}
    made["image"] = IMAGES[:image] if image else None
    made["mask"] = MASKS[:mask] if mask else None
    return made


def part(value: Any, index: int) -> Any:
    """Item `index` of a batch, or the one that is shared."""
    if isinstance(value, torch.Tensor):
        return value[index : index + 1] if len(value) > 1 else value
    return value[index] if isinstance(value, list) else value


FITTING = [
    ({}, 1, 1),
    ({}, 3, 3),
    ({"prompt": 3}, 1, 3),
    ({"prompt": 3}, 3, 3),
    ({"negative": 3}, 1, 3),
    ({"seed": 3}, 1, 3),
    ({"prompt": 3, "negative": 3, "seed": 3}, 1, 3),
    ({"prompt": 2, "image": 1}, 1, 2),
    ({"prompt": 1, "image": 2}, 1, 2),
    ({"image": 2, "mask": 1}, 1, 2),
    ({"image": 1, "mask": 2}, 1, 2),
    ({"image": 1, "mask": 3, "prompt": 3}, 1, 3),
    ({"image": 1, "mask": 1}, 3, 3),
    ({"image": 3, "mask": 3, "prompt": 3, "negative": 3, "seed": 3}, 3, 3),
]


@pytest.mark.parametrize(("counts", "batch", "size"), FITTING, ids=str)
@pytest.mark.parametrize("strength", [None, 0.6])
def test_each_picture_is_the_one_it_would_be_alone(
    model: AmusedModel, counts: dict[str, int], batch: int, size: int, strength: float | None
) -> None:
    given = arguments(**counts)
    together = model.generate(**given, batch_size=batch, steps=3, cfg=3.0, strength=strength)
    assert together.tokens.shape == (size, 8, 8) and together.images.shape == (size, 32, 32, 3)
    for index in range(size):
        one = {name: part(value, index) for name, value in given.items()}
        if not isinstance(given["seed"], list):
            one["seed"] = given["seed"] + index
        alone = model.generate(**one, steps=3, cfg=3.0, strength=strength)
        assert torch.equal(alone.tokens[0], together.tokens[index])


UNFIT = [
    ({"prompt": 2, "negative": 3}, 1, ("prompt (2)", "negative_prompt (3)")),
    ({"prompt": 2}, 3, ("prompt (2)", "batch_size (3)")),
    ({"seed": 2}, 3, ("seed (2)", "batch_size (3)")),
    ({"prompt": 3, "seed": 2}, 1, ("prompt (3)", "seed (2)")),
    ({"image": 2, "prompt": 3}, 1, ("prompt (3)", "image (2)")),
    ({"image": 3, "mask": 2}, 1, ("image (3)", "mask (2)")),
    ({"image": 1, "mask": 2, "prompt": 3}, 1, ("prompt (3)", "mask (2)")),
]


@pytest.mark.parametrize(("counts", "batch", "parts"), UNFIT, ids=str)
def test_both_sizes_are_named(model: AmusedModel, counts: dict[str, int], batch: int, parts: tuple[str, ...]) -> None:
    refused(model, *parts, "equal", **arguments(**counts), batch_size=batch)


def test_diffusers_seeding_takes_one_seed(model: AmusedModel) -> None:
    refused(model, "'diffusers'", "one seed", "2", seed=[1, 2], seeding="diffusers")


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_and_tuples(model: AmusedModel, kind: type) -> None:
    assert len(model.generate(kind(WORDS), negative_prompt=kind(["x"]), seed=kind([4]), steps=1).tokens) == 3
