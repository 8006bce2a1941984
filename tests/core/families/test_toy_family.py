"""A second family of models runs without a change to the pack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from amused_core import AmusedModel, families, load_model
from amused_core.networks.int8 import Int8Linear, quantized_copy
from tests import loras, toy_family


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[AmusedModel]:
    """A model of the toy family."""
    toy_family.register(families)
    yield load_model(toy_family.write_toy_checkpoint(tmp_path / "toy"))
    del families.FAMILIES[toy_family.CLASS]


def test_it_draws(toy: AmusedModel) -> None:
    """With its own recommendation; a picture alone is the one in a batch, and the prompt matters."""
    batch = toy.generate("a cat", batch_size=2, seed=3)
    assert batch.settings[0]["cfg"] == 2.0 and batch.settings[0]["steps"] == 5
    assert torch.equal(toy.generate("a cat", seed=4).tokens[0], batch.tokens[1])
    assert not torch.equal(toy.generate("a dog", seed=4).tokens[0], batch.tokens[1])
    assert batch.images.shape == (2, 32, 32, 3)


def test_it_takes_a_lora(toy: AmusedModel, tmp_path: Path) -> None:
    before = toy.generate("a cat").tokens
    file = loras.write(tmp_path / "a.safetensors", "diffusers", loras.factors(toy.transformer, ["mix"]))
    assert not toy.load_lora(file).unused
    assert not torch.equal(toy.generate("a cat").tokens, before)
    toy.unload_loras()
    assert torch.equal(toy.generate("a cat").tokens, before)


@pytest.mark.parametrize("name", ["copy", "copy.safetensors"])
def test_it_is_saved(toy: AmusedModel, tmp_path: Path, name: str) -> None:
    toy.save(tmp_path / name)
    again = load_model(tmp_path / name)
    assert again.checkpoint.family.name == "Toy"
    assert torch.equal(again.generate("a cat").tokens, toy.generate("a cat").tokens)


def test_its_layers_are_quantized(toy: AmusedModel) -> None:
    quantized = quantized_copy(toy.transformer)
    names = {name for name, module in quantized.named_modules() if isinstance(module, Int8Linear)}
    assert names == {"mix", "head"}
