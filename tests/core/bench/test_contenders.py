"""The two sides of the bench: their weights, their parts, and how their pictures are compared."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from amused_core.bench import contenders, measure
from amused_core.bench.laps import Laps, compose, parts
from amused_core.bench.weights import RandomSource, shared_checkpoint
from amused_core.checkpoint import Checkpoint
from amused_core.families.published import PUBLISHED
from tests.core.bench.runs import AGAIN


def test_the_totals_are_all_that_was_spent(folder: Path) -> None:
    checkpoint = shared_checkpoint(str(folder), None, 0, torch.float32)
    workload = contenders.Workload("a cat", "a dog", 1, 3, 1, 32, 32, 3.0, (2.0, 0.0))
    for side in (
        contenders.Pack(checkpoint, torch.float32, "diffusers"),
        contenders.Diffusers(checkpoint, torch.float32),
    ):
        ticks = itertools.count()
        laps = Laps(lambda ticks=ticks: (next(ticks),))
        side.draw(workload, laps)
        assert len(laps.costs["step"]) == 3
        assert compose(parts(laps.costs), 3) == pytest.approx((next(ticks) - 1,)), side.name


def test_the_sides_share_their_weights(folder: Path) -> None:
    checkpoint = shared_checkpoint(str(folder), None, 0, torch.float32)
    pack, diffusers = (
        contenders.Pack(checkpoint, torch.float32, "diffusers"),
        contenders.Diffusers(checkpoint, torch.float32),
    )
    ours = {value.data_ptr() for value in pack.model.transformer.parameters()}
    theirs = {value.data_ptr() for value in diffusers.pipe.transformer.parameters()}
    assert len(ours & theirs) > len(theirs) / 2
    assert {v.data_ptr() for v in pack.model.text.module.parameters()} == {
        v.data_ptr() for v in diffusers.pipe.text_encoder.parameters()
    }


def test_pictures_are_compared_in_levels() -> None:
    tokens = torch.zeros(2, 1, 1, dtype=torch.int64)
    pixels = torch.full((2, 4, 4, 3), 0.4)
    other = pixels.clone()
    other[0, 0, 0, 0] += 3 / 255
    runs = [measure.TimedRun(contenders.Output(tokens, picture), {}, None, None) for picture in (pixels, other)]
    found = measure.equality({"diffusers": [runs[0]], "pack": [runs[1]], AGAIN: [runs[0]]})
    assert found is not None and found["levels"] == 3 and found["differing"] == pytest.approx(1 / 96)


@pytest.mark.parametrize(("shape", "parameters"), [("256", 603_537_664), ("512", 608_257_792)])
def test_random_weights_have_the_published_sizes(shape: str, parameters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amused_core.bench.weights._filled", lambda name, size, _: torch.empty(size, device="meta"))
    checkpoint = Checkpoint(Path("random"), RandomSource(shape, 0))
    counts = [
        sum(v.numel() for v in checkpoint.state(part).values()) for part in ("transformer", "vqvae", "text_encoder")
    ]
    assert counts == [parameters, 146_244_675, 123_650_304]
    assert checkpoint.factor == 16 and checkpoint.recommended.width == int(shape)
    assert checkpoint.tokenizer().model_max_length == 77


def test_random_weights_are_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "projection_dim": 16}
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8}
    monkeypatch.setitem(PUBLISHED["amused-256"], "text_encoder", sizes)
    one, same, other = (RandomSource("256", seed).state("text_encoder") for seed in (0, 0, 1))
    weight = "text_model.encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(one[weight], same[weight]) and not torch.equal(one[weight], other[weight])
    assert one[weight].std().item() == pytest.approx(32**-0.5, rel=0.1)
    half = RandomSource("256", 0, torch.float16).state("text_encoder")
    assert torch.equal(half[weight], one[weight].half())
