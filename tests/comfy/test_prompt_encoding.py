"""What a prompt contributes is worked out once a run, and anew where weights may change."""

from __future__ import annotations

import pytest

from tests.comfy import graphs
from tests.comfy.graphs import same
from tests.comfy.runs import (
    QUERY,
    callback,
    conditioning,
    patch,
    post_cfg,
    replaced_attention,
    stock,
    wrapped_function,
    wrapped_model,
)


@pytest.fixture
def conditions(comfy, monkeypatch):
    """The rows of each call that works out what a U-ViT takes from prompts."""
    comfy.fresh()
    seen, uvit = [], comfy.module("amused_core.networks.uvit").UVit
    original = uvit.condition

    def watched(self, text, *more):
        seen.append(len(text))
        return original(self, text, *more)

    monkeypatch.setattr(uvit, "condition", watched)
    return seen


@pytest.mark.parametrize(("cfg", "made"), [(1.0, [1]), (1 + 1e-12, [1]), (3.0, [1, 1])])
def test_prompts_are_worked_out_once_a_run(comfy, conditions, cfg, made):
    loader = graphs.load(comfy)
    comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader, batch=3), cfg=cfg))
    assert conditions == made


@pytest.mark.parametrize(
    ("change", "made"), [(wrapped_function, [2]), (post_cfg, [2]), (replaced_attention, [2]), (None, [3])]
)
def test_the_stock_way_works_them_out_once_too(comfy, conditions, change, made):
    """Of two prompts side by side, and the negative one, as well."""
    loader, wires = graphs.load(comfy), {}
    if change is None:
        wires["positive"] = comfy.give(conditioning(comfy, loader) + conditioning(comfy, loader, "a blue cat"))
    else:
        wires["model"] = stock(comfy, loader, change)
    comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader), **wires))
    assert conditions == made


@pytest.mark.parametrize("change", [wrapped_model, callback("on_prepare_state")])
def test_they_are_worked_out_anew_where_weights_may_change(comfy, conditions, change):
    loader = graphs.load(comfy)
    comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader), model=stock(comfy, loader, change)))
    assert conditions == [2] * 6


@pytest.mark.parametrize("change", [lambda clone: None, post_cfg])
def test_each_run_has_its_own_weights_and_prompts(comfy, change):
    """Other weights in the same model, then other texts: what was kept of the run before is gone."""
    loader = graphs.load(comfy)
    latent, patcher = graphs.empty(comfy, loader), comfy.run(loader)
    plain, patched = patcher.clone(), patcher.clone()
    assert patched.add_patches(patch("encoder_proj.weight"))
    for clone in (plain, patched):
        change(clone)

    def run(model, prompt="a red apple"):
        text = graphs.prompts(comfy, loader, prompt)
        return comfy.run(graphs.sample(comfy, loader, latent, text, model=comfy.give(model)))

    first, other, text, again = run(plain), run(patched), run(plain, "two blue cats"), run(plain)
    assert same(first, again) and not same(first, other) and not same(first, text)
    assert same(other, run(patched))
    assert not patcher.model.condition_cache._cached


def test_hooks_may_change_the_weights_within_a_run(comfy, conditions):
    """Nothing is kept while they do."""
    import comfy.hooks as hooks

    loader = graphs.load(comfy)
    group = hooks.create_hook_lora({}, 1.0, 0.0)
    group.hooks[0].weights = patch(QUERY)
    positive = comfy.give(conditioning(comfy, loader, hooks=group))
    comfy.run(graphs.ksampler(comfy, loader, graphs.empty(comfy, loader), positive=positive))
    assert conditions == [1] * 12
