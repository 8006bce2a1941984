"""The tokens that the embedded model was trained on, recovered from it."""

from __future__ import annotations

import torch

from amused_core import load_model
from amused_core.small_world.scenes.layout import CELL, LARGE_SIDE, PLACES, SMALL_SIDE, WHOLE
from amused_core.small_world.scenes.sprites import sprites, thing_index
from amused_core.small_world.training.recover import flat_tokens, thing_tokens
from amused_core.small_world.training.vq_data import flat_cells


def test_recovered_tokens_are_those_that_the_model_draws() -> None:
    model, names = load_model(), ("cat", "guitar", "train")
    flat = flat_tokens(model)
    prompts = {WHOLE: "{} on a gray background", "top left": "{} in the top left corner on a gray background"}
    for places, side in (((WHOLE, WHOLE), LARGE_SIDE), (("top left", "bottom right"), SMALL_SIDE)):
        numbers = [thing_index(name) for name in names]
        tokens, empty = thing_tokens(model, numbers, places), flat_cells(sprites()[side][numbers])[:, 0]
        texts = [prompts[places[0]].format(f"a {name}") for name in names]
        drawn = model.generate(texts, seed=0, steps=8, cfg=1.0).tokens
        place = PLACES[places[0]]
        top, left, cells = place.top // CELL, place.left // CELL, side // CELL
        window = drawn[:, top : top + cells, left : left + cells]
        assert (tokens == window)[~empty].float().mean() > 0.99
        assert torch.all(drawn[:, 0, -1] == flat[2])
