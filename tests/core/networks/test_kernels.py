"""Matrix products: oneDNN where it is faster and exact, torch's own elsewhere."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_core import AmusedModel
from amused_core.networks import kernels
from amused_core.networks.layers import Conv2d


def run(model: AmusedModel, **more: Any) -> Tensor:
    return model.generate(**{"prompt": "a cat", "steps": 4, "cfg": 3.0, "seed": 3, **more}).tokens


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SHAPES = [((3,), 5), ((1, 1), 1), ((7, 3), 5), ((2, 13, 31), 17), ((0, 4), 3), ((4, 0, 6), 2), ((2, 3, 5, 64), 1)]


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Takes oneDNN's product wherever it may be taken; the shapes it was given."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise") or not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no such product")
    seen, product = [], kernels._onednn

    def watched(x: Tensor, *args: Any) -> Tensor:
        seen.append(tuple(x.shape))
        return product(x, *args)

    monkeypatch.setattr(kernels, "onednn_pays", lambda: True)
    monkeypatch.setattr(kernels, "_onednn", watched)
    return seen


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
def test_products_of_odd_shapes(onednn: list[Any], shape: tuple[int, ...], outputs: int, bias: bool) -> None:
    x, weight = noise(*shape), noise(outputs, shape[-1], seed=1)
    given = noise(outputs, seed=2) if bias else None
    with torch.no_grad():
        got, want = kernels.linear(x, weight, given), F.linear(x, weight, given)
    assert onednn == [shape]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * float(want.abs().max()) if want.numel() else 0)


def test_products_of_views(onednn: list[Any]) -> None:
    """Inputs that do not lie in a row, and weights that are part of another tensor."""
    x, weight = noise(6, 9, 5).transpose(0, 1)[:, ::2], noise(12, 7, seed=1)[::3, 1:6]
    with torch.no_grad():
        torch.testing.assert_close(kernels.linear(x, weight), F.linear(x, weight), rtol=1e-5, atol=1e-5)
    assert onednn


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 7, 200])
def test_products_of_packed_weights(onednn: list[Any], rows: int) -> None:
    """Packed for one number of rows, they serve any other."""
    x, weight, bias = noise(rows, 40), noise(24, 40, seed=1), noise(24, seed=2)
    got = kernels.linear(x, kernels.packed(weight, 64), bias)
    torch.testing.assert_close(got, F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)
    assert onednn == [(rows, 40)]


def test_the_trial_forgives_a_slow_start() -> None:
    """The first calls of a process wait for memory: a median of few would name the wrong product the faster one."""
    waits = iter([0.05, 0.05, 0.05, *[0.0] * 20])
    slow_at_first, steady = kernels._race(lambda: time.sleep(next(waits)), lambda: time.sleep(0.005))
    assert slow_at_first < steady


@pytest.mark.parametrize("there", ["_linear_pointwise", "_reorder_linear_weight"])
def test_a_torch_without_the_product(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(**{there: getattr(torch.ops.mkldnn, there, None)}))
    monkeypatch.setattr(kernels, "_race", lambda *_: [1.0, 0.5])
    assert not kernels.onednn_pays.__wrapped__()


@torch.no_grad()
@pytest.mark.parametrize("form", ["plain", "packed"])
def test_a_product_that_rounds_is_not_taken(onednn: list[Any], form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some processors and settings make oneDNN work in fewer bits; it is faster then, and not fp32."""
    assert kernels._onednn_is_exact()
    product = kernels._onednn

    def rounding(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return product(x.bfloat16().float() if weight.is_mkldnn == (form == "packed") else x, weight, bias)

    monkeypatch.setattr(kernels, "_onednn", rounding)
    assert not kernels._onednn_is_exact()


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 1}, {"groups": 2}])
def test_pointwise_convolutions(onednn: list[Any], options: dict[str, int], bias: bool) -> None:
    """Those that are a product are one; all give what torch's do."""
    conv = Conv2d(6, 4, 1, bias=bias, **options)
    x = noise(2, 6, 3, 7)
    torch.testing.assert_close(conv(x), nn.Conv2d.forward(conv, x), rtol=1e-5, atol=1e-5)
    assert len(onednn) == (not options)


def test_products_with_gradients(onednn: list[Any]) -> None:
    operands = [noise(4, 5).requires_grad_(), noise(3, 5, seed=1).requires_grad_(), noise(3, seed=2).requires_grad_()]
    got, want = (torch.autograd.grad(f(*operands).square().sum(), operands) for f in (kernels.linear, F.linear))
    assert onednn == [] and all(map(torch.equal, got, want))


def test_other_kinds_of_weights_keep_their_product(onednn: list[Any]) -> None:
    class Wrapped(Tensor):
        pass

    with torch.no_grad():
        for x, weight in (
            (noise(2, 3).double(), noise(4, 3).double()),
            (noise(2, 3).bfloat16(), noise(4, 3).bfloat16()),
            (noise(2, 3), noise(4, 3).as_subclass(Wrapped)),
        ):
            assert torch.equal(kernels.linear(x, weight), F.linear(x, weight))
    assert onednn == []


def test_tokens_are_the_same_with_either_product(onednn: list[Any], model: AmusedModel, monkeypatch: Any) -> None:
    fast = run(model)
    assert onednn
    monkeypatch.setattr(kernels, "onednn_pays", lambda: False)
    assert torch.equal(fast, run(model))
