"""Fine-tuning: batches, masks, gradients and precision of the training step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from amused_core import load_model
from amused_core.finetune import masking
from amused_core.finetune.dataset import TokenDataset
from amused_core.finetune.devices import make_accelerator
from amused_core.finetune.plan import TrainingPlan
from amused_core.finetune.prepare import prepare
from amused_core.finetune.settings import TrainingSettings
from amused_core.finetune.trainable import EmbeddedCaptions
from amused_core.finetune.trainer import Trainer, TrainingData
from amused_core.networks.text import TextEmbedding
from tests.core.finetune.runs import QUICK, MakeRun, same, weights
from tests.tiny import MASK_ID


class Recorder(torch.nn.Module):
    """Stands in for a `TrainableModel`: records its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[torch.Tensor, list[str]]] = []

    def forward(self, tokens: torch.Tensor, micro: torch.Tensor, text: tuple[torch.Tensor, ...]) -> torch.Tensor:
        self.seen.append((tokens, text))
        return torch.zeros(len(tokens), 64, *tokens.shape[1:]) + self.weight


def recorded(settings: TrainingSettings, count: int = 1) -> tuple[Trainer, Recorder, list[str]]:
    """A trainer on random tokens whose captions are kept."""
    said: list[str] = []

    def encode(captions: Any) -> tuple[torch.Tensor, ...]:
        said.extend(captions)
        return ()

    tokens = torch.randint(64, (count, 8, 8), generator=torch.Generator().manual_seed(1))
    examples = TokenDataset(tokens, tuple(f"picture {i}" for i in range(count)), torch.zeros(count, 5))
    trainable = Recorder()
    accelerator = make_accelerator(settings.precision, settings.accumulation, True)
    return Trainer(trainable, TrainingData(examples, encode, MASK_ID), settings, accelerator), trainable, said


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.2, 0.12, 0.28), (1.0, 1, 1)])
def test_drop_text_is_the_share_that_loses_its_caption(share: float, low: float, high: float) -> None:
    trainer, _, said = recorded(TrainingSettings(steps=20, batch=20, drop_text=share))
    for _ in range(20):
        trainer.step()
    assert low <= said.count("") / len(said) <= high
    assert set(said) <= {"", "picture 0"}


def test_masked_cells_hold_the_mask_token_and_others_their_own() -> None:
    trainer, trainable, _ = recorded(TrainingSettings(batch=8))
    trainer.step()
    (tokens, _), known = trainable.seen[0], trainer.data.examples.tokens
    masked = tokens == MASK_ID
    assert masked.flatten(1).any(1).all() and not masked.all()
    assert torch.equal(tokens[~masked], known.expand_as(tokens)[~masked])


def test_every_example_comes_once_before_any_comes_again() -> None:
    trainer, _, said = recorded(TrainingSettings(batch=2, drop_text=0), count=5)
    for _ in range(5):
        trainer.step()
    assert sorted(said[:5]) == sorted(said[5:]) == [f"picture {i}" for i in range(5)]
    assert said[:5] != said[5:]


def test_accumulation_is_many_batches_for_one_update() -> None:
    trainer, trainable, said = recorded(TrainingSettings(batch=2, accumulation=3, drop_text=0), count=6)
    trainer.step()
    assert len(trainable.seen) == 3 and sorted(said) == [f"picture {i}" for i in range(6)]
    assert len(trainer.losses) == 1


def test_accumulated_gradients_are_those_of_one_batch(folder: Path, png: Path, tmp_path: Path) -> None:
    """Two batches of one example, and the mean of their losses: one update, as told by a hand-made sum."""
    settings = TrainingSettings(steps=1, accumulation=2, rank=2, max_norm=1e6, learning_rate=1e-3)
    training = prepare(load_model(folder), TrainingPlan(png, "a", tmp_path / "a"), settings)
    twin = prepare(load_model(folder), TrainingPlan(png, "a", tmp_path / "b"), settings)
    ((twin.trainer._loss(0) + twin.trainer._loss(1)) / 2).backward()
    wanted = [p.grad.clone() for p in twin.trainer.parameters]
    seen: list[torch.Tensor] = []
    inner = training.trainer.inner_optimizer
    inner.register_step_pre_hook(lambda *_: seen.extend(p.grad.clone() for p in training.trainer.parameters))
    training.trainer.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(seen, wanted, strict=True))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 4), (3, 11), (1, 1)])
def test_regions_are_rectangles_of_the_asked_size(height: int, width: int) -> None:
    generator, shapes = torch.Generator().manual_seed(0), set()
    for ratio in (0.0, 0.1, 0.33, 0.8, 1.0) * 8:
        mask = masking.region_mask(height, width, ratio, generator)
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all() and mask.sum() == box.numel(), "one rectangle"
        count = max(1, round(ratio * height * width))
        assert count <= mask.sum() < count + max(height, width)
        shapes.add((tuple(box.shape), int(rows[0]), int(columns[0])))
    assert len(shapes) > 1 or height * width == 1


def test_share_of_regions() -> None:
    def in_one_piece(mask: torch.Tensor) -> bool:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        return bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())

    generator = torch.Generator().manual_seed(0)
    masks = masking.sample_masks(400, 16, 16, 0.15, generator)
    assert 0.1 < sum(map(in_one_piece, masks)) / 400 < 0.22  # scattered masks of one cell, or of all, count as well
    ratios = masks.float().mean((1, 2))
    assert abs(float(ratios.mean()) - 0.637) < 0.04  # the mean of a cosine over a quarter turn
    assert not any(map(in_one_piece, masking.sample_masks(50, 16, 16, 0.0, generator)[:0]))


def test_gradient_checkpointing_changes_no_gradient(folder: Path, png: Path, tmp_path: Path) -> None:
    found = []
    for number, on in enumerate((False, True)):
        settings = QUICK.with_changes(gradient_checkpointing=on, text_encoder=True)
        training = prepare(load_model(folder), TrainingPlan(png, "a mushroom", tmp_path / str(number)), settings)
        training.trainer.step()
        found.append(weights(training))
    assert same(*found)


def test_averaged_weights_are_what_is_written(run: MakeRun) -> None:
    training = run(settings=QUICK.with_changes(ema=0.9))
    tensors = load_file(training.train())
    name = "transformer_layers.0.attn1.to_q"
    live = training.model.transformer.get_submodule(name).lora_A["default"].weight
    index = next(i for i, p in enumerate(training.trainer.parameters) if p is live)
    assert torch.equal(tensors[f"transformer.{name}.lora_A.weight"], training.trainer.ema[index])
    assert not torch.equal(training.trainer.ema[index], live)


@pytest.mark.parametrize("precision", ["bf16"])
def test_half_precision(run: MakeRun, precision: str) -> None:
    training = run(settings=QUICK.with_changes(precision=precision, steps=12))
    training.train()
    assert training.model.transformer.encoder_proj.weight.dtype is torch.bfloat16
    assert all(parameter.dtype is torch.float32 for parameter in training.trainer.parameters)
    assert training.trainer.losses[-1] < training.trainer.losses[0]


def test_captions_of_several_lengths() -> None:
    """Repeating keys and values changes no attention, so short and long prompts fit into one batch."""
    short = TextEmbedding(torch.rand(1, 2, 4), torch.rand(1, 3))
    long = TextEmbedding(torch.rand(1, 3, 4), torch.rand(1, 3))
    hidden, pooled = EmbeddedCaptions({"s": short, "l": long})(["s", "l", "s"])
    assert hidden.shape == (3, 6, 4) and pooled.shape == (3, 3)
    query = torch.rand(1, 5, 4)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert torch.allclose(attend(query, short.hidden, short.hidden), attend(query, hidden[:1], hidden[:1]), atol=1e-6)


def test_training_leaves_the_global_generator_alone(run: MakeRun) -> None:
    before = torch.get_rng_state()
    run(settings=QUICK.with_changes(gradient_checkpointing=True)).train()
    assert torch.equal(before, torch.get_rng_state())
