"""The judge and the strict measure."""

from __future__ import annotations

import pytest
import torch

from amused_core.evaluation.accuracy import MARGIN, right
from amused_core.evaluation.calibration import blurred, noisy
from amused_core.evaluation.judge import read
from amused_core.evaluation.targets import Targets
from amused_core.evaluation.verdict import verdict
from amused_core.small_world.scenes.layout import CELL, CORNERS, RELATIONS, Scene
from amused_core.small_world.scenes.sprites import draw
from amused_core.small_world.scenes.things import BACKGROUNDS
from tests.core.evaluation.scenes import COLOURS, NAMES, generator


def every_thing() -> list[Scene]:
    """Every thing large and in a corner, and on both sides of pairs, the backgrounds and places taking turns."""
    scenes = []
    for number, name in enumerate(NAMES):
        colour = COLOURS[number % 10]
        scenes.append(Scene.single(name, colour))
        scenes.append(Scene.single(name, COLOURS[(number // 4) % 10], CORNERS[number % 4]))
        scenes.append(Scene.pair(name, list(RELATIONS)[number % 4], NAMES[(number + 57) % len(NAMES)], colour))
    return scenes


def make_targets(scenes: list[Scene], ceiling: float) -> Targets:
    """Targets of scenes, of a VQ with one PSNR for all."""
    planes = draw(scenes)
    tokens = torch.zeros(len(scenes), 16, 16, dtype=torch.long)
    return Targets(scenes, planes.movedim(1, -1), planes, tokens, planes, torch.full((len(scenes),), ceiling))


@pytest.mark.parametrize("damage", [blurred, lambda planes: noisy(planes, 0.1, generator())], ids=["blur", "noise"])
def test_judge_reads_every_thing_on_every_background_in_every_place(damage) -> None:
    scenes = every_thing()
    planes = damage(draw(scenes))
    reading = read(planes)
    found = verdict(reading, scenes)
    wrong = [f"{scenes[i]}: {reading.words(i)}" for i in (~found.all).nonzero()[:, 0].tolist()]
    assert not wrong


CASES = {
    "another thing": (Scene.single("cat", "blue"), Scene.single("dog", "blue"), {"background", "place"}),
    "another background": (Scene.single("cat", "blue"), Scene.single("cat", "green"), {"object", "place", "relation"}),
    "another place": (Scene.single("cat", "blue"), Scene.single("cat", "blue", "top left"), {"object", "background"}),
    "another corner": (
        Scene.single("cat", "blue", "top right"),
        Scene.single("cat", "blue", "top left"),
        {"object", "background"},
    ),
    "a swapped pair": (
        Scene.pair("cat", "left of", "dog", "pink"),
        Scene.pair("dog", "left of", "cat", "pink"),
        {"object", "background", "place"},
    ),
    "above instead of left": (
        Scene.pair("cat", "left of", "dog", "pink"),
        Scene.pair("cat", "above", "dog", "pink"),
        {"object", "background"},
    ),
    "one thing too many": (Scene.single("cat", "red"), Scene.pair("cat", "above", "dog", "red"), {"background"}),
    "the same in other words": (
        Scene.pair("cat", "left of", "dog", "pink"),
        Scene.pair("dog", "right of", "cat", "pink"),
        {"object", "background", "place", "relation", "all"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_judge_sees_what_is_wrong(case: str) -> None:
    shown, requested, still_right = CASES[case]
    found = verdict(read(draw([shown])), [requested])
    names = ("object", "background", "place", "relation", "all")
    assert {name for name in names if getattr(found, name).item()} == still_right


def test_nothing_is_seen_in_an_empty_or_a_grey_noisy_picture() -> None:
    flat = torch.tensor(BACKGROUNDS["blue"])[:, None, None].expand(3, 128, 128) / 255
    noise = torch.rand(3, 128, 128, generator=generator())
    half = draw([Scene.pair("cat", "left of", "dog", "blue")])[0]
    half[:, :, 64:] = flat[:, :, 64:]
    reading = read(torch.stack([flat, noise, half]))
    assert reading.background.tolist() == [7, -1, 7]
    assert reading.words(0) == "nothing whole; blue"
    assert reading.words(1).endswith("no clear background")
    assert reading.words(2) == "cat left, nothing right; blue"


def test_strict_measure_refuses_speckles_and_half_another_thing() -> None:
    scenes = [Scene.single(name, COLOURS[number % 10]) for number, name in enumerate(NAMES[:60])]
    others = [Scene.single(NAMES[number + 80], COLOURS[number % 10]) for number in range(60)]
    target = make_targets(scenes, ceiling=24.0)
    cells = torch.rand(60, 1, 16, 16, generator=generator()).repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)
    speckled = torch.where(
        cells < 0.3, target.planes[torch.randperm(60, generator=generator(1))].roll(CELL, 2), draw(scenes)
    )
    halves = torch.where(cells < 0.5, draw(others), draw(scenes))
    good = noisy(target.planes, 0.05, generator())
    strict = {}
    for name, planes in {"good": good, "speckled": speckled, "halves": halves}.items():
        found = verdict(read(planes), scenes)
        strict[name] = right(found, planes, target).float().mean().item()
        if name == "speckled":
            assert found.object.float().mean() > 0.5, "the nearest reference alone is too lenient"
    assert strict["good"] == 1 and strict["speckled"] < 0.05 and strict["halves"] < 0.05, strict
    assert MARGIN == 3.0
