"""What masked training sees at which time: a few things first, more and more later, hard ones more often."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ...sampling.step_generator import step_generator
from ..scenes.layout import RELATIONS, Scene
from ..scenes.splits import held_out, random_scene
from ..scenes.sprites import thing_index

_LOSS_DECAY = 0.9
_NEW_THING = 2.0  # difficulty of a thing not yet seen, in units of the mean


def things_in_play(step: int, total: int, first: int = 6, hold: int = 75, pace: int = 14) -> int:
    """How many things are trained on at `step`: a few at the start, then one more every `pace` steps.

    With all things from the start, the model learns the backgrounds and then stands still for hundreds of steps,
    because each thing's own signal is too rare. With six it tells them apart after fifty steps, and new ones follow.
    """
    return min(total, first + max(0, step - hold) // pace)


def shares(progress: float) -> tuple[float, float]:
    """`(large, corner)` shares of the scenes at `progress` (0..1) of the run; the rest are pairs."""
    late = min(1.0, max(0.0, (progress - 0.2) / 0.3))
    return 0.65 - 0.4 * late, 0.17 - 0.07 * late


def reading_order(scene: Scene) -> Scene:
    """The same picture in the words that name the left or upper thing first."""
    if scene.places in (RELATIONS["left of"], RELATIONS["above"]) or len(scene.things) == 1:
        return scene
    return Scene(scene.things[::-1], scene.places[::-1], scene.background)


def _reading_order_share(progress: float) -> float:
    """Part of the pairs that are named in reading order. Where both orders are there from the start, which thing goes
    where is an exclusive or of word order and relation, and the model stays at "one of the two" for thousands of steps.
    """
    return 0.9 - 0.9 * min(1.0, max(0.0, (progress - 0.6) / 0.15))


class Curriculum:
    """Draws scenes and learns from their losses which things are hard. `total`: number of things."""

    def __init__(self, total: int, seed: int) -> None:
        self.total = total
        self.order = torch.randperm(total, generator=step_generator(seed, -2))
        self.losses = torch.full((total,), torch.nan)

    def difficulty(self) -> Tensor:
        """Float `[total]`: how much more often than usual each thing is drawn, 0.5 to 3."""
        known = ~self.losses.isnan()
        mean = self.losses[known].mean() if known.any() else torch.tensor(1.0)
        return (torch.where(known, self.losses, mean * _NEW_THING) / mean.clamp_min(1e-6)).clamp(0.5, 3)

    def draw(self, count: int, step: int, progress: float, generator: Generator) -> list[Scene]:
        """`count` scenes of the things in play, none of them held out."""
        active = self.order[: things_in_play(step, self.total)]
        weights = self.difficulty()[active]
        scenes: list[Scene] = []
        while len(scenes) < count:
            pair = active[torch.multinomial(weights, 2, generator=generator)].tolist()
            scene = random_scene(generator, *shares(progress), pair)
            if float(torch.rand((), generator=generator)) < _reading_order_share(progress):
                scene = reading_order(scene)
            if not held_out(scene):
                scenes.append(scene)
        return scenes

    def learn(self, scenes: Sequence[Scene], losses: Sequence[float]) -> None:
        """Take the mean loss of every scene into account."""
        for scene, loss in zip(scenes, losses, strict=True):
            for name in scene.things:
                index = thing_index(name)
                old = self.losses[index]
                self.losses[index] = loss if old.isnan() else _LOSS_DECAY * old + (1 - _LOSS_DECAY) * loss
