"""8-bit products: near fp32, and a picture is the same alone and in any batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amused_core import AmusedError, AmusedModel, load_model
from amused_core.networks import int8
from amused_core.networks.int8 import Int8Linear, int8_problem, quantized_copy
from tests.core.refusals import refused

QUERY = "transformer_layers.0.attn1.to_q.weight"
WORDS = ["a red apple on a blue background", "a cat", "a clock on a green background", "a frog"]


def run(model: AmusedModel, **more: Any) -> Tensor:
    return model.generate(**{"prompt": "a cat", "steps": 4, "cfg": 3.0, "seed": 3, **more}).tokens


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def own(folder: Path) -> AmusedModel:
    """A model to change."""
    return load_model(folder)


@pytest.fixture(scope="module")
def embedded() -> AmusedModel:
    """The model that ships with the package."""
    return load_model()


@pytest.mark.parametrize("how", [{"int8": True, "steps": 4}, {"fast": True, "int8": True}], ids=["int8", "fast"])
@pytest.mark.parametrize("count", [2, 5])
def test_a_picture_is_the_same_alone_and_in_a_batch(embedded: AmusedModel, how: dict[str, Any], count: int) -> None:
    prompts, seeds = (WORDS * 2)[:count], list(range(40, 40 + count))
    batch = embedded.generate(prompts, seed=seeds, cfg=9.0, **how)
    for index in range(count):
        keys = ("prompt", "seed", "steps", "cfg", "cfg_schedule", "cfg_interval", "cfg_every", "int8")
        again = {key: batch.settings[index][key] for key in keys}
        alone = embedded.generate(**again, reuse=bool(index % 2))
        assert torch.equal(alone.tokens[0], batch.tokens[index])


def test_a_token_does_not_depend_on_others() -> None:
    """Bit for bit, in any company, in any shape, and beside outliers."""
    layer = nn.Linear(96, 40)
    with torch.no_grad():
        product, x = Int8Linear(layer), noise(3, 50, 96)
        x[1] *= 1000
        whole = product(x)
        assert all(torch.equal(product(x[i : i + 1]), whole[i : i + 1]) for i in range(3))
        assert torch.equal(product(x[2, 7]), whole[2, 7]) and torch.equal(product(x[:, :5]), whole[:, :5])


@pytest.mark.parametrize("zeros", ["inputs", "weights"])
def test_zeros_stay_zeros(zeros: str) -> None:
    layer = nn.Linear(64, 32, bias=False)
    with torch.no_grad():
        if zeros == "weights":
            layer.weight.zero_()
        x = torch.zeros(4, 64) if zeros == "inputs" else noise(4, 64)
        assert torch.equal(Int8Linear(layer)(x), torch.zeros(4, 32))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(64, 128, 96), (5, 33, 7), (1, 8, 1)])
def test_an_int8_layer_is_near_fp32(rows: int, inputs: int, outputs: int, bias: bool) -> None:
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        for index, parameter in enumerate(layer.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=index + 1))
        x = noise(2, rows, inputs)
        want, got = layer(x), Int8Linear(layer)(x)
        assert got.shape == want.shape and got.dtype == torch.float32
        assert 0 < (got - want).square().mean().sqrt() < 0.05 * want.square().mean().sqrt()
        views = Int8Linear(layer)(x.transpose(0, 1))
    torch.testing.assert_close(views, got.transpose(0, 1))


def test_int8_weights_have_a_scale_for_each_output() -> None:
    """A row of tiny weights is as exact as one of large weights; a row of zeros gives the bias."""
    layer = nn.Linear(64, 3)
    with torch.no_grad():
        layer.weight.copy_(noise(3, 64) * torch.tensor([[1e3], [1e-3], [0.0]]))
        x = noise(16, 64, seed=1)
        want, got = layer(x) - layer.bias, Int8Linear(layer)(x) - layer.bias
    errors = (got - want).square().mean(0).sqrt()
    assert bool((errors[:2] < 0.05 * want.square().mean(0).sqrt()[:2]).all()) and errors[2] < 1e-6


def test_the_twin_shares_all_weights_and_the_text(own: AmusedModel) -> None:
    """Only what runs in every step is in 8 bits; what a prompt stands for is exact."""
    uvit = own.transformer
    quantized = quantized_copy(uvit)
    mine = {id(weight) for weight in uvit.parameters()}
    assert {id(weight) for weight in quantized.parameters()} < mine
    assert not any(isinstance(module, Int8Linear) for module in uvit.modules())
    layers = {name for name, module in quantized.named_modules() if isinstance(module, Int8Linear)}
    assert {
        "transformer_layers.0.attn1.to_q",
        "project_to_hidden",
        "up_block.res_blocks.0.channelwise_linear_1",
    } < layers
    text, pooled, micro = noise(2, 6, 32), noise(2, 32), torch.ones(2, 5)
    with torch.no_grad():
        one, two = (list(leaves(net.condition(text, pooled, micro))) for net in (uvit, quantized))
    assert len(one) == len(two) > 10 and all(map(torch.equal, one, two))


def leaves(condition: Any) -> Iterator[Tensor]:
    if isinstance(condition, Tensor):
        yield condition
    else:
        for part in condition:
            yield from leaves(part)


def test_the_twin_is_built_once_and_anew_after_a_change(own: AmusedModel) -> None:
    uvit = own.transformer
    quantized = quantized_copy(uvit)
    uvit.attend = uvit.attend
    assert quantized_copy(uvit) is quantized
    with torch.no_grad():
        uvit.get_parameter(QUERY).add_(1)
    other = quantized_copy(uvit)
    assert other is not quantized
    uvit.get_parameter(QUERY).data.add_(1)
    assert quantized_copy(uvit) is not other


def test_the_twin_takes_the_attention_of_the_moment(own: AmusedModel) -> None:
    seen, attend = [], own.transformer.attend
    run(own, int8=True)
    own.transformer.attend = lambda *args: seen.append(1) or attend(*args)
    run(own, int8=True)
    assert seen


@pytest.mark.usefixtures("counts_as_large")
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_int8_in_half_precision(folder: Path, dtype: str) -> None:
    """Refused where it was asked for by name; `fast` goes without."""
    model = load_model(folder, dtype=dtype)
    kind = {"fp16": "float16", "bf16": "bfloat16"}[dtype]
    refused(
        model, f"int8 works in fp32 on a CPU only, and this model is in {kind} on 'cpu'; leave int8 out.", int8=True
    )
    assert model.generate("a cat", fast=True).settings[0]["int8"] is False


@pytest.fixture
def anew() -> Iterator[None]:
    """Whether 8-bit products work is asked anew, and again afterwards."""
    int8._weight_limit.cache_clear()
    yield
    int8._weight_limit.cache_clear()


@pytest.mark.usefixtures("anew", "counts_as_large")
def test_int8_without_the_products(monkeypatch: pytest.MonkeyPatch, own: AmusedModel) -> None:
    monkeypatch.delattr(torch, "_int_mm")
    assert "needs a torch with 8-bit matrix products" in (int8_problem(own.transformer) or "")
    with pytest.raises(AmusedError, match=r"leave int8 out\.$"):
        run(own, int8=True)
    assert torch.equal(run(own, fast=True, steps=4), run(own, cfg_interval=(0, 0.5), cfg_every=2))


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("change", ["wrong", "refused"])
def test_int8_where_its_products_fail(change: str, monkeypatch: pytest.MonkeyPatch, own: AmusedModel) -> None:
    """torch has them for some processors only, and says so when they are called."""

    def product(*_: Any) -> Tensor:
        if change == "refused":
            raise RuntimeError("no kernel")
        return torch.zeros(32, 32, dtype=torch.int32)

    monkeypatch.setattr(torch, "_int_mm", product)
    assert "has none here" in (int8_problem(own.transformer) or "")


@pytest.mark.usefixtures("anew")
def test_weights_of_7_bits_where_sums_are_kept_in_16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without VNNI a sum of two products of 8 bits overflows, without a word."""
    exact = torch._int_mm

    def saturating(x: Tensor, weight: Tensor) -> Tensor:
        pairs = [exact(x[:, i : i + 2], weight[i : i + 2]).clamp(-(2**14), 2**14) for i in range(0, x.shape[1], 2)]
        return torch.stack(pairs).sum(0).int()

    monkeypatch.setattr(torch, "_int_mm", saturating)
    layer = nn.Linear(64, 32)
    assert Int8Linear(layer).weight.abs().max() == 63
    with torch.no_grad():
        x = noise(16, 64)
        torch.testing.assert_close(Int8Linear(layer)(x), layer(x), atol=0.05, rtol=0.05)


def test_int8_changes_some_tokens_and_nothing_else(model: AmusedModel) -> None:
    exact, near = run(model), run(model, int8=True)
    assert 0.3 < (exact == near).float().mean() < 1
    assert torch.equal(run(model), exact) and torch.equal(run(model, int8=True), near)
