"""The probe that names the thing in each cell."""

from __future__ import annotations

import torch

from amused_core.small_world.scenes.layout import Scene
from amused_core.small_world.scenes.sprites import thing_index
from amused_core.small_world.training.probe import ThingProbe, things_in_cells
from tests.core.small_world.tiny_world import tiny_trainer


def test_cells_hold_the_thing_that_lies_there() -> None:
    cat, dog = (1 + thing_index(name) for name in ("cat", "dog"))
    pair = things_in_cells(Scene.pair("cat", "left of", "dog", "white"))
    assert pair[4:12, :8].eq(cat).all() and pair[4:12, 8:].eq(dog).all() and pair[:4].eq(0).all()
    large = things_in_cells(Scene.single("cat", "white"))
    assert large[1:-1, 1:-1].eq(cat).all() and large.sum() == 14 * 14 * cat


def test_learns_to_name_what_the_trunk_shows() -> None:
    things = torch.stack([things_in_cells(Scene.single(name, "white", "top left")) for name in ("cat", "dog")])
    trunk = torch.zeros(2, 64, 3)
    trunk[:, :, 0] = (things.view(2, 8, 2, 8, 2).amax((2, 4)) > 0).flatten(1)
    trunk[1, :, 1] = trunk[1, :, 0]
    probe = ThingProbe(172, 3, 1)
    optimizer = torch.optim.Adam(probe.parameters(), 0.3)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = probe([trunk], things)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 5 and losses[-1] < 0.05


def test_watches_only_while_asked() -> None:
    trainer = tiny_trainer()
    probe = ThingProbe(172, 8, 1)
    layers = trainer.transformer.transformer_layers
    with probe.watch(trainer.transformer):
        assert len(layers[-1]._forward_hooks) == 1
    assert not any(layer._forward_hooks for layer in layers)
