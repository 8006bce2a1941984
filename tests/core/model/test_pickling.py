"""A model that has been used can be copied, pickled and sent to another process."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from amused_core import AmusedModel, load_model
from amused_core.pipelines import AmusedPipeline
from tests import loras

RUN: dict[str, Any] = {"steps": 2, "cfg": 2.0, "seed": 7}


def draw(model: AmusedModel) -> torch.Tensor:
    """Tokens of a short run on one thread."""
    torch.set_num_threads(1)
    return model.generate("a cat", **RUN).tokens


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301


@pytest.fixture
def used(folder: Path) -> AmusedModel:
    model = load_model(folder)
    model.generate("a cat", **RUN)
    return model


@pytest.mark.parametrize("again", [pickled, copy.deepcopy])
@pytest.mark.parametrize("how", ["plain", "int8", "lora", "image"])
def test_a_used_model(
    used: AmusedModel, picture: torch.Tensor, tmp_path: Path, again: Callable[[Any], Any], how: str
) -> None:
    """diffusers#1692."""
    plain = draw(used)
    if how == "lora":
        parts = (used.transformer, loras.UVIT), (used.text.module, loras.TEXT)
        factors = [loras.factors(module, names) for module, names in parts]
        used.load_lora(loras.write(tmp_path / "x.safetensors", "diffusers", *factors))
        assert not torch.equal(draw(used), plain)
    if how == "int8":
        used.generate("a cat", int8=True, **RUN)
    if how == "image":
        used.generate("a cat", image=picture, mask=torch.ones(1, 32, 32), **RUN)
    other = again(used)
    assert torch.equal(draw(other), draw(used))
    assert torch.equal(draw(again(other)), draw(used)), "a copy of a copy"
    other.unload_loras()
    assert torch.equal(draw(other), plain)
    if how == "lora":
        assert not torch.equal(draw(used), plain), "the copy's weights are its own"


def test_in_another_process(used: AmusedModel) -> None:
    """A method of the package: the other process need not find the tests."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result = pool.apply_async(used.generate, ("a cat",), RUN).get(timeout=300)
    assert torch.equal(result.tokens, draw(used))


def test_one_file(folder: Path, tmp_path: Path) -> None:
    load_model(folder).save(tmp_path / "m.safetensors")
    model = load_model(tmp_path / "m.safetensors")
    assert torch.equal(draw(pickled(model)), draw(model)) and torch.equal(draw(pickled(model)), draw(model))


def test_a_used_pipeline(folder: Path) -> None:
    pipe = AmusedPipeline.from_pretrained(folder)

    def tokens(pipe: AmusedPipeline) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return pipe("a cat", num_inference_steps=2, output_type="latent", generator=generator).images

    want = tokens(pipe)
    for again in (pickled, copy.deepcopy):
        assert torch.equal(tokens(again(pipe)), want)


def test_embeddings_are_transformers_own(model: AmusedModel) -> None:
    ids = model.text.ids(["a cat", "a dog"])
    with torch.no_grad():
        want = copy.deepcopy(model.text.module)(ids, output_hidden_states=True)
    got = model.text.encode(["a cat", "a dog"])
    assert torch.equal(got.hidden, want.hidden_states[-2]) and torch.equal(got.pooled, want.text_embeds)


def test_threads_get_their_own_embeddings(model: AmusedModel) -> None:
    prompts = ["a cat", "a dog", "a red apple", "x"]
    want = [model.text.encode([prompt]).hidden for prompt in prompts]
    got: dict[int, list[torch.Tensor]] = {}

    def embed(index: int) -> None:
        got[index] = [model.text.encode([prompts[index]]).hidden for _ in range(50)]

    threads = [threading.Thread(target=embed, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(hidden, want[index]) for index in range(4) for hidden in got[index])
