"""Plain prompts on the stock path: the logits of ComfyUI itself, in less time."""

from __future__ import annotations

import pytest

from tests.comfy import graphs
from tests.comfy.runs import (
    conditioning,
    equal,
    joined,
    own_way,
    patched_attention,
    run,
    special,
    wrapped_function,
    wrapped_model,
)


@pytest.fixture
def ways(comfy, monkeypatch):
    """For each pass of any aMUSEd model: whether it went the short way."""
    seen, model = [], comfy.module("nodes.host.model.base_model").AmusedBaseModel
    original = model._apply_model

    def watched(self, *args, **kw):
        seen.append("tokens" in kw)
        return original(self, *args, **kw)

    monkeypatch.setattr(model, "_apply_model", watched)
    return seen


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("name", ["tiny", "tiny512"])
def test_plain_prompts_are_the_same_the_short_way(comfy, ways, name, cfg, batch):
    loader = graphs.load(comfy, name)
    patcher = comfy.run(loader)
    short = run(comfy, patcher, loader, batch=batch, cfg=cfg)
    assert ways == [True] * 6
    long = run(comfy, own_way(patcher), loader, batch=batch, cfg=cfg)
    assert ways[6:] == [False] * 6
    assert equal(short, long)


@pytest.mark.parametrize(("count", "short"), [(2, True), (6, False)])
def test_joined_prompts(comfy, ways, count, short):
    """ComfyUI runs texts of very different length one by one, and repeats the shorter one where they are alike."""
    loader = graphs.load(comfy)
    patcher, positive = comfy.run(loader), joined(comfy, loader, count)
    assert positive[0][0].shape[1] == 24 * count
    one = run(comfy, patcher, loader, positive)
    assert ways == ([True] * 6 if short else [False] * 12)
    assert equal(one, run(comfy, own_way(patcher), loader, positive))


@pytest.mark.parametrize("name", ["area", "mask", "range", "strength", "hooks", "default"])
def test_special_prompts_go_comfyuis_own_way(comfy, ways, name):
    loader = graphs.load(comfy)
    patcher, positive = comfy.run(loader), conditioning(comfy, loader, **special(name))
    one = run(comfy, patcher, loader, positive)
    assert ways and not any(ways)
    assert equal(one, run(comfy, own_way(patcher), loader, positive))


def test_several_prompts_go_comfyuis_own_way(comfy, ways):
    loader = graphs.load(comfy)
    positive = conditioning(comfy, loader) + conditioning(comfy, loader, "two blue cats")
    run(comfy, comfy.run(loader), loader, positive)
    assert ways and not any(ways)


@pytest.mark.parametrize("change", [wrapped_function, wrapped_model, patched_attention])
def test_changed_models_go_comfyuis_own_way(comfy, ways, change):
    loader = graphs.load(comfy)
    run(comfy, comfy.run(loader), loader, change=change)
    assert ways and not any(ways)


def test_little_memory_goes_comfyuis_own_way(comfy, ways, monkeypatch):
    loader = graphs.load(comfy)
    patcher = comfy.run(loader)
    monkeypatch.setattr(comfy.module("nodes.host.compat"), "free_memory", lambda *_: 0)
    run(comfy, patcher, loader)
    assert ways and not any(ways)
