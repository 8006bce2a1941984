"""Intervals, distances and features."""

from __future__ import annotations

import pytest
import torch

from amused_core.evaluation.calibration import noisy
from amused_core.evaluation.features import perceptual, summary
from amused_core.evaluation.metrics import bootstrap, code_entropy, different_tokens, distinct, frechet, wilson
from amused_core.evaluation.prompts import prompts
from amused_core.small_world.scenes.layout import Scene
from amused_core.small_world.scenes.sprites import draw
from tests.core.evaluation.scenes import generator


def test_intervals() -> None:
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-3)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-3)
    assert wilson(88, 100) == pytest.approx((0.8019, 0.9300), abs=1e-3)
    assert wilson(500, 500) == pytest.approx((0.9924, 1), abs=1e-3)
    assert wilson(0, 0) == (0, 1)
    values = torch.randn(400, generator=generator())
    mean = bootstrap(values, "dB", "mean")
    assert mean == bootstrap(values, "dB", "mean")
    half = 1.96 * values.std().item() / 20
    assert mean["high"] - mean["low"] == pytest.approx(2 * half, rel=0.15)
    assert bootstrap(torch.tensor([1.0, 2, 9]), "")["value"] == 2
    assert bootstrap(torch.tensor([4.0]), "") == {"value": 4, "low": 4, "high": 4, "unit": ""}


def test_frechet_distance() -> None:
    vectors = torch.randn(200, 8, generator=generator())
    assert frechet(vectors, vectors) < 1e-6
    shifts = [frechet(vectors, vectors + shift) for shift in (0.1, 0.5, 2.0)]
    assert shifts == pytest.approx([8 * 0.01, 8 * 0.25, 8 * 4.0], rel=1e-4)
    scaled = vectors - vectors.mean(0)
    assert frechet(scaled, 3 * scaled) == pytest.approx(4 * scaled.var(0).sum().item(), rel=1e-4)
    planes = draw([prompt.scene for prompt in prompts("seen", 80)])
    steps = [frechet(summary(planes), summary(noisy(planes, sigma, generator()))) for sigma in (0.0, 0.1, 0.3)]
    assert steps[0] < 1e-4 < steps[1] < steps[2]


def test_fixed_features_are_the_same_everywhere_and_grow_with_damage() -> None:
    planes = draw([Scene.single("cat", "blue"), Scene.single("bus", "pink")])
    assert perceptual(planes, planes).abs().max() == 0
    little, much = (perceptual(noisy(planes, sigma, generator()), planes) for sigma in (0.05, 0.3))
    assert (0 < little).all() and (little < much).all()
    state = torch.random.get_rng_state()
    summary(planes)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_entropy_and_diversity() -> None:
    assert code_entropy(torch.zeros(3, 4, 4, dtype=torch.long), 8) == 0
    assert code_entropy(torch.arange(8).repeat(5), 8) == pytest.approx(3)
    grids = torch.stack([torch.zeros(2, 2), torch.ones(2, 2), torch.zeros(2, 2)]).long()
    assert distinct(grids) == 2 and different_tokens(grids) == pytest.approx(2 / 3)
