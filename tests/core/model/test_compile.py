"""`compile`: the same tokens, and each shape compiled once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from amused_core import AmusedError, AmusedModel
from amused_core.cli import main
from amused_core.networks import compiled

RUN: dict[str, Any] = {"steps": 4, "cfg": 3.0, "seed": 3}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Graphs are made and run as they are, which takes a second instead of a minute; gives how many there are."""
    torch._dynamo.reset()
    counters.clear()
    functions: dict[Any, Any] = {}

    def traced_features(kind: type[Any], device: str) -> Any:
        return functions.setdefault(kind, torch.compile(kind.features, dynamic=False, backend="eager"))

    monkeypatch.setattr(compiled, "_compiled_features", traced_features)
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


def test_a_graph_for_each_shape(model: AmusedModel, traced: Any) -> None:
    """Neither seeds nor prompts, steps or guidance compile anew, and no graph is broken in two."""
    sizes = [(32, 32), (48, 16)]
    for width, height in sizes:
        model.generate("a cat", width=width, height=height, **RUN, compile=True)
    assert traced() == len(sizes), dict(counters)
    prompts = ["a dog", "two red apples on a blue background", "x " * 60]
    for seed in range(20):
        width, height = sizes[seed % 2]
        more = {"steps": 2 + seed % 3, "cfg": 2.0 + seed, "seed": seed, "width": width, "height": height}
        model.generate(prompts[seed % 3], **more, compile=True)
    assert traced() == len(sizes)
    assert not counters["graph_break"]


@pytest.mark.parametrize("name", ["model", "model_512"])
def test_the_graph_gives_the_same_tokens(request: pytest.FixtureRequest, traced: Any, name: str) -> None:
    model: AmusedModel = request.getfixturevalue(name)
    for more in ({}, {"batch_size": 3}, {"cfg": 1.0}, {"cfg_schedule": "ramp", "cfg_every": 2}, {"reuse": False}):
        plain, other = (model.generate("a red cat", **{**RUN, **more}, compile=on).tokens for on in (False, True))
        assert torch.equal(plain, other), more
    assert traced()


def test_changed_weights_are_seen(model: AmusedModel, traced: Any) -> None:
    weight = model.transformer.project_to_hidden.weight
    before = model.generate("a cat", **RUN, compile=True).tokens
    original = weight.clone()
    with torch.no_grad():
        weight.neg_()
    try:
        changed = model.generate("a cat", **RUN, compile=True).tokens
        assert torch.equal(changed, model.generate("a cat", **RUN).tokens) and not torch.equal(changed, before)
    finally:
        with torch.no_grad():
            weight.copy_(original)


def test_observers_see_every_attention(model: AmusedModel, traced: Any) -> None:
    seen: list[int] = []
    model.generate("a cat", **RUN, compile=True, on_attention=lambda q, k, heads, options: seen.append(heads))
    assert seen and not traced()


def test_not_with_int8(model: AmusedModel) -> None:
    with pytest.raises(AmusedError, match="compile is True and so is int8"):
        model.generate("a cat", **RUN, compile=True, int8=True)
    with pytest.raises(AmusedError, match="compile is 'yes'"):
        model.generate("a cat", **RUN, compile="yes")


def test_a_machine_without_a_compiler(model: AmusedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(kind: type[Any], device: str) -> Any:
        def backend(graph: Any, inputs: Any) -> Any:
            raise OSError("No working C++ compiler found")

        return torch.compile(kind.features, dynamic=False, backend=backend)

    torch._dynamo.reset()
    monkeypatch.setattr(compiled, "_compiled_features", fails)
    with pytest.raises(AmusedError, match=r"torch.compile does not work here \(.*C\+\+ compiler.*leave compile out\.$"):
        model.generate("a cat", **RUN, compile=True)
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", "model_512"])
def test_compiled_code_gives_the_same_tokens(request: pytest.FixtureRequest, name: str) -> None:
    model: AmusedModel = request.getfixturevalue(name)
    plain, other = (model.generate("a red cat", **RUN, batch_size=2, compile=on).tokens for on in (False, True))
    assert torch.equal(plain, other)


@pytest.mark.slow
def test_the_command(folder: Any, tmp_path: Any) -> None:
    path = str(tmp_path / "x.png")
    assert main(["generate", "a cat", "--model", str(folder), "--steps", "2", "--compile", "--output", path]) == 0
