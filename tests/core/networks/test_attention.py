"""Attention backends: choosing, switching, refusing."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch

from amused_core import AmusedModel, AttentionError, load_model
from amused_core.networks.attention import choose_attention, sdpa, xformers


def fake_xformers(monkeypatch: pytest.MonkeyPatch, attend) -> None:
    """Puts a module in the place of xformers."""
    ops = types.ModuleType("xformers.ops")
    ops.memory_efficient_attention = attend
    package = types.ModuleType("xformers")
    package.ops = ops
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, op=None) -> torch.Tensor:
    """What xformers computes, [B,N,H,D], written out."""
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v)


@pytest.mark.parametrize("name", ["x", "", "SDPA", None, 5, []])
def test_unknown(model: AmusedModel, folder: Path, name) -> None:
    for ask in (model.set_attention, lambda name: load_model(folder, attention=name)):
        with pytest.raises(AttentionError) as caught:
            ask(name)
        assert repr(name) in str(caught.value) and "auto, sdpa, xformers" in str(caught.value)
    assert model.transformer.attend is sdpa


def test_missing(model: AmusedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    before = model.generate("a cat", steps=2).tokens
    with pytest.raises(AttentionError, match=r"'xformers' cannot run.*Use 'sdpa' or 'auto'"):
        model.set_attention("xformers")
    assert model.transformer.attend is sdpa and torch.equal(model.generate("a cat", steps=2).tokens, before)
    model.set_attention("auto")
    assert model.transformer.attend is sdpa


def test_no_kernel(model: AmusedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*tensors: torch.Tensor, op=None) -> torch.Tensor:
        raise NotImplementedError("No operator found\nwith many more lines")

    fake_xformers(monkeypatch, refuse)
    with pytest.raises(AttentionError) as caught:
        model.set_attention("xformers")
    text = str(caught.value)
    assert "no kernel for the device 'cpu'" in text and "No operator found" in text and "\n" not in text


def test_on_and_off(model: AmusedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def attend(q, k, v, op=None):
        calls.append(q.shape)
        return reference(q, k, v)

    fake_xformers(monkeypatch, attend)
    before = model.generate("a cat", steps=2).tokens
    model.set_attention("xformers")
    try:
        assert model.transformer.attend is xformers
        calls.clear()
        assert torch.equal(model.generate("a cat", steps=2).tokens, before)
        assert len(calls) == 2 * (2 * 2 + 2 * 2)  # steps x (layers + blocks, two attentions each)
    finally:
        model.set_attention("sdpa")
    calls.clear()
    assert torch.equal(model.generate("a cat", steps=2).tokens, before) and not calls


def test_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_xformers(monkeypatch, reference)
    q, k, v = (torch.randn(2, n, 16, generator=torch.Generator().manual_seed(n)) for n in (9, 5, 5))
    one, other = (attend(q, k, v, 4, "attn1", {}) for attend in (sdpa, xformers))
    assert one.shape == (2, 9, 16) and torch.allclose(one, other, atol=1e-6)


def test_any_function_can_be_put_in(model: AmusedModel) -> None:
    names = []

    def attend(q, k, v, heads, name, options):
        names.append(name)
        return sdpa(q, k, v, heads, name, options)

    before = model.generate("a cat", steps=1).tokens
    model.transformer.attend = attend
    try:
        assert torch.equal(model.generate("a cat", steps=1).tokens, before)
    finally:
        model.set_attention("sdpa")
    assert names == ["attn1", "attn2"] * 4


def test_auto_on_a_cpu() -> None:
    assert choose_attention("auto", "cpu") is sdpa and choose_attention("sdpa", torch.device("cpu")) is sdpa
