"""Which of ComfyUI's attentions a MODEL uses."""

from __future__ import annotations

from functools import wraps

import pytest

from tests.comfy import graphs
from tests.comfy.graphs import same


@pytest.fixture
def called(comfy, monkeypatch):
    """Names of the attentions that were called, ComfyUI having fallen back to its own for CPUs."""
    from comfy.ldm.modules import attention

    names = set()

    def watch(name):
        plain = getattr(attention, f"attention_{name}")
        watched = wraps(plain)(lambda *args, **kw: names.add(name) or plain(*args, **kw))
        monkeypatch.setattr(attention, f"attention_{name}", watched)

    for name in ("pytorch", "sub_quad", "basic"):
        watch(name)
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_sub_quad)
    return names


def draw(comfy, called):
    """Tokens, regenerated; the attentions of the text encoder; those of the sampler."""
    comfy.fresh()
    loader = graphs.load(comfy)
    text, empty = graphs.prompts(comfy, loader), graphs.empty(comfy, loader)
    called.clear()
    comfy.run(text, (text, 1))
    of_text = set(called)
    called.clear()
    return comfy.run(graphs.sample(comfy, loader, empty, text, cfg=2.0)), of_text, called


def test_torch_attends_where_comfyui_only_falls_back(comfy, called, monkeypatch):
    """On a CPU without a flag; whoever asks for attention in pieces gets it."""
    from comfy.cli_args import args

    plain, of_text, of_sampler = draw(comfy, called)
    assert of_text == of_sampler == {"pytorch"}
    monkeypatch.setattr(args, "use_quad_cross_attention", True)
    tokens, of_text, of_sampler = draw(comfy, called)
    assert same(plain, tokens) and (of_text, of_sampler) == ({"basic"}, {"sub_quad"})


def test_attention_of_another_pack_is_used(comfy, called, monkeypatch):
    """And that of a flag: both put their own in the place of ComfyUI's choice."""
    from comfy.ldm.modules import attention

    monkeypatch.setattr(attention, "optimized_attention", attention.attention_basic)
    assert draw(comfy, called)[2] == {"basic"}
