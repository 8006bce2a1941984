"""xformers on and off, in the drop-in pipelines and on a loaded model."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from amused_core import AttentionError
from amused_core.networks.attention import choose_attention
from amused_core.pipelines import AmusedPipeline
from tests.parity.oracle import PROMPTS, generator, quiet

RUN = {"num_inference_steps": 2, "output_type": "latent"}


@pytest.fixture
def pipe(small):
    return quiet(AmusedPipeline(**small.ours["text2img"].components))


def install(monkeypatch, kernel):
    """Puts a package `xformers` with this `memory_efficient_attention` in place."""
    package, ops = ModuleType("xformers"), ModuleType("xformers.ops")
    package.ops, ops.memory_efficient_attention = ops, kernel
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)


@pytest.fixture
def calls(monkeypatch):
    """xformers with a kernel that runs here; gives the `op` of every call."""
    seen = []

    def kernel(q, k, v, op=None):
        seen.append(op)
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    install(monkeypatch, kernel)
    return seen


def test_switching_on_and_off(pipe, calls):
    want = pipe(PROMPTS, **RUN, generator=generator()).images
    assert not calls
    pipe.enable_xformers_memory_efficient_attention()
    calls.clear()
    assert torch.equal(pipe(PROMPTS, **RUN, generator=generator()).images, want)
    # A probe, then 2 steps of 2 layers and 2 end blocks with 2 attentions each.
    assert len(calls) == 1 + 2 * 8
    pipe.disable_xformers_memory_efficient_attention()
    calls.clear()
    assert torch.equal(pipe(PROMPTS, **RUN, generator=generator()).images, want)
    assert not calls


def test_attention_op_is_handed_on(pipe, calls):
    pipe.enable_xformers_memory_efficient_attention(attention_op="flash")
    calls.clear()
    pipe(PROMPTS, **RUN)
    assert calls[1:] == ["flash"] * 16


def test_one_pipeline_does_not_switch_another(pipe, small, calls):
    pipe.enable_xformers_memory_efficient_attention()
    calls.clear()
    small.ours["text2img"](PROMPTS, **RUN)
    assert not calls


def test_on_a_loaded_model(small, calls):
    small.model.set_attention("xformers")
    calls.clear()
    small.model.generate(PROMPTS[0], steps=1, width=32, height=32)
    assert len(calls) == 8
    small.model.set_attention("sdpa")
    calls.clear()
    small.model.generate(PROMPTS[0], steps=1, width=32, height=32)
    assert not calls


def missing(*given, **named):
    raise NotImplementedError("No operator found for `memory_efficient_attention_forward`")


def test_no_kernel_for_the_device(pipe, monkeypatch):
    install(monkeypatch, missing)
    with pytest.raises(AttentionError, match="no kernel for the device 'cpu'"):
        pipe.enable_xformers_memory_efficient_attention()
    want = pipe(PROMPTS, **RUN, generator=generator()).images
    assert torch.equal(want, pipe(PROMPTS, **RUN, generator=generator()).images)


def test_kernel_is_gone_when_the_pipeline_runs(pipe, calls, monkeypatch):
    """As when it was switched on for a GPU and the pipeline then moved to the CPU."""
    pipe.enable_xformers_memory_efficient_attention()
    install(monkeypatch, missing)
    with pytest.raises(AttentionError, match="no kernel"):
        pipe(PROMPTS, **RUN)


def test_package_is_missing(pipe, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "xformers", None)
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    for enable in (pipe.enable_xformers_memory_efficient_attention, lambda: small.model.set_attention("xformers")):
        with pytest.raises(AttentionError, match="the package does not import"):
            enable()
    assert choose_attention("auto", "cpu").__name__ == "sdpa"
