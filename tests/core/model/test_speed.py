"""What makes a run faster: exact short cuts give the same tokens, the others do what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from amused_core import AmusedModel, load_model
from amused_core.networks import predictor, prompt_cache
from amused_core.networks.encoded_prompt import encode_prompts
from amused_core.networks.prompt_cache import PromptCache
from amused_core.sampling.schedule import Schedule
from tests import loras
from tests.core.refusals import refused

QUERY = "transformer_layers.0.attn1.to_q.weight"


def run(model: AmusedModel, **more: Any) -> Tensor:
    return model.generate(**{"prompt": "a cat", "steps": 4, "cfg": 3.0, "seed": 3, **more}).tokens


@contextmanager
def rows(model: AmusedModel) -> Iterator[list[int]]:
    """Rows of each pass through the U-ViT."""
    seen: list[int] = []
    hook = model.transformer.embed.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    try:
        yield seen
    finally:
        hook.remove()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def own(folder: Path) -> AmusedModel:
    """A model to change."""
    return load_model(folder)


@pytest.mark.parametrize("reuse", [True, False])
def test_cfg_every(own: AmusedModel, reuse: bool) -> None:
    plain = run(own, steps=5, reuse=reuse)
    assert torch.equal(plain, run(own, steps=5, cfg_every=1, reuse=reuse))
    own.prompt_cache.clear()
    for every, want in ((2, [2, 1, 2, 1, 2]), (3, [2, 1, 1, 2, 1]), (1000, [2, 1, 1, 1, 1])):
        with rows(own) as seen:
            other = run(own, steps=5, cfg_every=every, reuse=reuse)
        assert seen == (want[1:] if reuse and every > 2 else want)
        assert not torch.equal(other, plain)


def test_cfg_every_counts_guided_steps_alone(own: AmusedModel) -> None:
    with rows(own) as seen:
        run(own, steps=6, cfg_interval=(0.3, 1.0), cfg_every=2, reuse=False)
        run(own, steps=3, cfg=1.0, cfg_every=2, reuse=False)
    assert seen == [1, 1, 2, 1, 2, 1] + [1, 1, 1]


def test_the_difference_is_that_of_the_last_guided_step(own: AmusedModel) -> None:
    """As LazyMAR has it: features of the prompt alone, and `cfg - 1` times the difference found before."""
    cond, uncond = encode_prompts(own.transformer, own.text, ["a cat", ""], 32, 32)
    one, two = torch.full((1, 8, 8), 71), torch.full((1, 8, 8), 71)
    one[0, :2], two[0, :4] = 5, 9
    cells = two == 71
    with torch.no_grad():
        lazy = predictor.predictor(own.transformer, [cond], [uncond], [3.0, 3.0], 2)
        first, second, *_ = Schedule.named("linear", 2).progress((0.0, 0.0))
        lazy(one, first, (one == 71).flatten().nonzero()[:, 0])
        got = lazy(two, second, cells.flatten().nonzero()[:, 0])
        logits = {
            (grid, row): own.transformer.mlm_layer(own.transformer.grid(tokens, row.condition))
            for grid, tokens in enumerate((one, two))
            for row in (cond, uncond)
        }
    want = logits[1, cond] + 2 * (logits[0, cond] - logits[0, uncond])
    torch.testing.assert_close(got, want.movedim(1, -1)[cells], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_rows_go_through_a_few_at_a_time(model: AmusedModel, most: int, seeding: str, monkeypatch: Any) -> None:
    """As many as there is memory for; the tokens of a batch are the same."""
    settings = {"batch_size": 3, "negative_prompt": ["a", "b", "c"], "seeding": seeding}
    want = run(model, **settings)
    size = model.transformer.row_bytes(want)
    monkeypatch.setattr(predictor, "KEPT_BYTES", most * size + size // 2)
    with rows(model) as seen:
        assert torch.equal(run(model, **settings), want)
    assert max(seen) == most


class Largest(TorchDispatchMode):
    """Watches the size of what is worked out."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.bytes = max(self.bytes, found.nbytes)
        return found


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 32, 24)])
def test_the_largest_activation_of_a_row(model: AmusedModel, shape: tuple[int, ...]) -> None:
    tokens = torch.zeros(shape, dtype=torch.int64)
    condition = encode_prompts(model.transformer, model.text, ["a cat"], 128, 128)[0].condition
    with Largest() as seen:
        model.transformer.grid(tokens[:1], condition)
    assert seen.bytes == model.transformer.row_bytes(tokens)


@pytest.mark.usefixtures("counts_as_large")
def test_fast_fills_in_what_was_left_out(model: AmusedModel) -> None:
    found = model.generate("a cat", fast=True).settings[0]
    assert (found["steps"], found["cfg_schedule"], found["cfg_interval"]) == (8, "interval", (0.0, 0.5))
    assert found["int8"] is True and found["cfg_every"] == 2
    named = {"steps": 8, "cfg_schedule": "interval", "cfg_interval": (0, 0.5), "cfg_every": 2, "int8": True}
    assert torch.equal(model.generate("a cat", fast=True).tokens, model.generate("a cat", **named).tokens)


def test_fast_leaves_int8_out_of_a_small_model(model: AmusedModel) -> None:
    assert model.generate("a cat", fast=True).settings[0]["int8"] is False
    assert model.generate("a cat", fast=True, int8=True).settings[0]["int8"] is True


@pytest.mark.usefixtures("counts_as_large")
@pytest.mark.parametrize(
    "named",
    [
        {"steps": 3},
        {"cfg_schedule": "ramp"},
        {"cfg_schedule": "constant"},
        {"cfg_interval": (0.2, 0.9)},
        {"int8": False},
        {"cfg_every": 3},
        {"steps": 2, "cfg_schedule": "interval", "cfg_interval": (0.5, 1.0), "int8": False},
    ],
)
def test_fast_leaves_alone_what_was_given(model: AmusedModel, named: dict[str, Any]) -> None:
    found = model.generate("a cat", fast=True, **named).settings[0]
    assert {name: found[name] for name in named} == named
    rest = {"steps": 8, "int8": True, "cfg_every": 2}
    assert all(found[name] == value for name, value in rest.items() if name not in named)
    if "cfg_interval" in named:
        assert found["cfg_schedule"] == "interval"


@pytest.mark.parametrize("model_name", ["folder", "folder_512"])
def test_the_first_step_is_shared(model_name: str, request: pytest.FixtureRequest) -> None:
    """Equal prompts share it, and another seed of the same prompts needs none."""
    model = load_model(request.getfixturevalue(model_name))
    with rows(model) as seen:
        first, second = (run(model, batch_size=4, seed=seed) for seed in (3, 9))
    assert seen == [2, 8, 8, 8] + [8, 8, 8]
    with rows(model) as seen:
        again = [run(model, batch_size=4, seed=seed, reuse=False) for seed in (3, 9)]
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    assert seen == [8] * 8


def test_different_prompts_share_what_they_can(own: AmusedModel) -> None:
    with rows(own) as seen:
        got = run(own, prompt=["a cat", "a dog", "a cat"], seed=[1, 2, 3])
    assert seen == [3, 6, 6, 6]
    assert torch.equal(got, run(own, prompt=["a cat", "a dog", "a cat"], seed=[1, 2, 3], reuse=False))


def test_other_sizes_and_starts_are_not_mixed_up(own: AmusedModel, folder: Path, picture: Tensor) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"width": 24},
        {"height": 24},
        {"image": picture},
        {"negative_prompt": "a cat"},
    ]
    got = [run(own, **more) for more in [*settings, *settings]]
    fresh = load_model(folder)
    assert all(map(torch.equal, got, [run(fresh, reuse=False, **more) for more in [*settings, *settings]]))


def in_place(model: AmusedModel) -> None:
    with torch.no_grad():
        model.transformer.get_parameter(QUERY).add_(noise(32, 32))


def through_data(model: AmusedModel) -> None:
    model.transformer.get_parameter(QUERY).data.add_(noise(32, 32))


def another_weight(model: AmusedModel) -> None:
    weight = model.transformer.get_parameter(QUERY)
    model.transformer.get_submodule("transformer_layers.0.attn1.to_q").weight = nn.Parameter(weight + noise(32, 32))


def in_the_text_encoder(model: AmusedModel) -> None:
    layer = model.text.module.get_submodule("text_model.encoder.layers.0.self_attn.q_proj")
    layer.weight.data.add_(noise(32, 32))


def of_one_number(model: AmusedModel) -> None:
    """An edit that cannot be seen, and is told."""
    model.transformer.get_parameter(QUERY).data[5:, 5:] += noise(27, 27)
    model.weights_changed()


CHANGES = [in_place, through_data, another_weight, in_the_text_encoder, of_one_number]


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_are_noticed(folder: Path, change: Callable[[AmusedModel], None], int8: bool) -> None:
    used, fresh = load_model(folder), load_model(folder)
    before = run(used, int8=int8)
    for model in (used, fresh):
        change(model)
    after = run(used, int8=int8)
    assert torch.equal(after, run(fresh, int8=int8)) and not torch.equal(after, before)


@pytest.mark.parametrize("int8", [False, True])
def test_loras_are_noticed(folder: Path, tmp_path: Path, int8: bool) -> None:
    used, fresh = load_model(folder), load_model(folder)
    file = loras.write(tmp_path / "a.safetensors", "diffusers", loras.factors(used.transformer, loras.ATTENTION))
    before = run(used, int8=int8)
    for model in (used, fresh):
        model.load_lora(file)
    after = run(used, int8=int8)
    assert torch.equal(after, run(fresh, int8=int8)) and not torch.equal(after, before)
    used.unload_loras()
    assert torch.equal(run(used, int8=int8), before)


def test_only_the_last_prompts_are_kept(own: AmusedModel) -> None:
    for index in range(3 * PromptCache.SIZE):
        run(own, prompt=f"a cat {index}", steps=1)
    assert len(own.prompt_cache._kept[1]) == PromptCache.SIZE
    prompts = [f"a dog {index}" for index in range(2 * PromptCache.SIZE)]
    many = run(own, prompt=prompts, steps=2)
    assert torch.equal(many, run(own, prompt=prompts, steps=2, reuse=False))


def test_threads_share_the_kept_prompts(own: AmusedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one encodes, another may replace what is kept, and what it was encoded with."""
    encode, others = prompt_cache.encode_prompts, []

    def slow(*arguments: Any) -> Any:
        rows = encode(*arguments)
        if not others:
            others.append("now")
            run(own, prompt=[f"a cat {index}" for index in range(2 * PromptCache.SIZE)], int8=True, steps=1)
        return rows

    want = run(own, prompt="a key", reuse=False), run(own, prompt="a key", reuse=False, int8=True)
    run(own, prompt="a dog")
    monkeypatch.setattr(prompt_cache, "encode_prompts", slow)
    assert torch.equal(run(own, prompt=["a dog", "a key"])[1:], run(own, prompt=["a dog", "a key"], reuse=False)[1:])
    assert others
    assert torch.equal(run(own, prompt="a key", int8=True), want[1]) and torch.equal(run(own, prompt="a key"), want[0])


@pytest.mark.parametrize("value", ["yes", 1, 0.0, []])
def test_fast_is_yes_or_no(model: AmusedModel, value: Any) -> None:
    refused(model, f"fast is {value!r}; allowed are True and False.", fast=value)


@pytest.mark.parametrize("value", ["no", 1, 0, 8.0, []])
def test_int8_is_yes_or_no(model: AmusedModel, value: Any) -> None:
    refused(model, f"int8 is {value!r}; allowed are True and False.", int8=value)


@pytest.mark.parametrize("value", [0, -1, 1001, 1.5, True, "2", [2]])
def test_cfg_every_is_a_number_of_steps(model: AmusedModel, value: Any) -> None:
    refused(model, f"cfg_every is {value!r}; allowed are whole numbers from 1 to 1000.", cfg_every=value)
