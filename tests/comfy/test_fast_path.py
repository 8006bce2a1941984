"""The fast path: the core's predictor in a graph gives ComfyUI's tokens, and only where nothing else is wanted."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from tests.comfy import graphs
from tests.comfy.graphs import same
from tests.comfy.harness import GraphError
from tests.comfy.runs import (
    QUERY,
    SAMPLERS,
    callback,
    conditioning,
    joined,
    own_cfg,
    own_conds,
    patch,
    patched_attention,
    post_cfg,
    pre_cfg,
    replaced_attention,
    special,
    speed,
    stock,
    watched_attention,
    wrapped_function,
    wrapped_model,
    wrapper,
)


@pytest.fixture
def direct(comfy, monkeypatch):
    """For each run: whether the core's predictor was taken. Nothing is remembered of earlier graphs."""
    comfy.fresh()
    seen, module = [], comfy.module("nodes.host.sample.fast_path")
    module._log_stock_path.cache_clear()
    original = module.predictor

    def watched(*args):
        found = original(*args)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(module, "predictor", watched)
    return seen


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cfg", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("name", ["tiny", "tiny512"])
@pytest.mark.parametrize("build", SAMPLERS.values(), ids=SAMPLERS)
def test_the_tokens_are_comfyuis(comfy, direct, build, name, cfg, batch):
    loader = graphs.load(comfy, name)
    latent = graphs.empty(comfy, loader, 36, 20, batch)
    one, two = comfy.run(
        build(comfy, loader, latent, cfg=cfg), build(comfy, loader, latent, cfg=cfg, model=stock(comfy, loader))
    )
    assert same(one, two) and sorted(direct) == [False, True]


def test_a_prompt_for_each_picture(comfy, direct):
    """A CONDITIONING with a row for each picture: the tokens of the stock path, and of each picture alone."""
    loader, words = graphs.load(comfy), ("a red apple", "a blue dog", "a red apple")
    rows = [conditioning(comfy, loader, text)[0] for text in words]
    pooled = torch.cat([more["pooled_output"] for _, more in rows])
    positive = comfy.give([[torch.cat([hidden for hidden, _ in rows]), {**rows[0][1], "pooled_output": pooled}]])
    latent = graphs.empty(comfy, loader, 36, 20, 3)
    wires = {"positive": positive, "cfg": 3.0}
    one, two = comfy.run(
        graphs.sample(comfy, loader, latent, **wires),
        graphs.sample(comfy, loader, latent, model=stock(comfy, loader), **wires),
    )
    assert same(one, two) and sorted(direct) == [False, True]
    alone = graphs.empty(comfy, loader, 36, 20)
    dog = comfy.run(graphs.sample(comfy, loader, alone, graphs.prompts(comfy, loader, words[1]), cfg=3.0, seed=4))
    assert torch.equal(one["samples"][1:2], dog["samples"])


@pytest.mark.parametrize(
    "settings",
    [
        {"seeding": "diffusers"},
        {"cfg_schedule": "ramp"},
        {"sampling_temperature": 0.8, "top_k": 20, "top_p": 0.9},
        {"sampling_temperature_end": 0.8, "order": "hybrid", "revision": 0.3},
        {"cfg_rescale": 0.7},
        {"cfg_rescale": 0.7, "cfg_schedule": "ramp"},
        {"denoise": 0.5},
        {"denoise": 0.7, "mask": True},
    ],
    ids=["diffusers", "ramp", "filters", "rules", "rescale", "rescaled ramp", "image", "mask"],
)
def test_settings_are_honoured(comfy, direct, settings):
    loader, settings = graphs.load(comfy), dict(settings)
    latent = graphs.empty(comfy, loader, batch=2)
    if "denoise" in settings:
        latent = comfy.node("VAEEncode", pixels=comfy.give(graphs.picture(2)), vae=(loader, 2))
    if settings.pop("mask", False):
        latent = comfy.node("SetLatentNoiseMask", samples=latent, mask=comfy.give(graphs.block_mask()))
    runs = (graphs.sample(comfy, loader, latent, model=m, **settings) for m in (loader, stock(comfy, loader)))
    assert same(*comfy.run(*runs)) and sorted(direct) == [False, True]


@pytest.mark.parametrize("settings", [{"guidance_to": 0.5}, {"guidance_every": 2}, {"guidance_from": 0.4}])
def test_spared_guidance_is_that_of_the_stock_way(comfy, direct, settings):
    loader = graphs.load(comfy)
    latent = graphs.empty(comfy, loader, batch=2)
    models = (speed(comfy, model, **settings) for model in (loader, stock(comfy, loader)))
    one, two = comfy.run(*(graphs.sample(comfy, loader, latent, model=model, cfg_schedule="ramp") for model in models))
    assert same(one, two) and sorted(direct) == [False, True]


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision(comfy, direct, dtype):
    loader = graphs.load(comfy, dtype=dtype)
    latent = graphs.empty(comfy, loader, batch=2)
    one, two = comfy.run(*(graphs.sample(comfy, loader, latent, model=m) for m in (loader, stock(comfy, loader))))
    assert same(one, two) and sorted(direct) == [False, True]


@pytest.mark.parametrize("name", ["pytorch", "split", "sub_quad", "basic"])
def test_any_attention_takes_prompts_that_share_memory(comfy, direct, monkeypatch, name):
    """Pictures of one prompt see the same keys; ComfyUI's attentions must not mind."""
    from comfy.cli_args import args
    from comfy.ldm.modules import attention

    loader = graphs.load(comfy)
    latent = graphs.empty(comfy, loader, batch=3)
    plain = comfy.run(graphs.sample(comfy, loader, latent, cfg=1.0))
    monkeypatch.setattr(attention, "optimized_attention", getattr(attention, f"attention_{name}"))
    monkeypatch.setattr(args, "use_quad_cross_attention", name == "sub_quad")
    comfy.fresh()
    assert same(plain, comfy.run(graphs.sample(comfy, loader, latent, cfg=1.0))) and direct == [True, True]


def test_weights_that_stay_outside(comfy, direct, monkeypatch):
    """Loaded in part only, and patched on the fly."""
    from comfy import model_management

    loader = graphs.load(comfy, "tiny", "fp32")
    patched, text = comfy.run(loader).clone(), graphs.prompts(comfy, loader)
    patched.add_patches(patch(QUERY))
    run = graphs.sample(comfy, loader, graphs.empty(comfy, loader), text, model=comfy.give(patched))
    want = comfy.run(run)
    model_management.unload_all_models()
    comfy.fresh()
    monkeypatch.setattr(model_management, "vram_state", model_management.VRAMState.NO_VRAM)
    monkeypatch.setattr(model_management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(model_management, "get_free_memory", lambda *args, **_: (0, 0) if len(args) > 1 else 0)
    monkeypatch.setattr(comfy.module("nodes.host.compat"), "free_memory", lambda *_: math.inf)
    got = comfy.run(run)
    assert patched.model.model_lowvram, "nothing was left out"
    assert same(want, got) and direct == [True, True]
    monkeypatch.undo()
    model_management.unload_all_models()
    comfy.fresh()


CHANGES = {
    "function": wrapped_function,
    "apply_model": wrapped_model,
    "attention patch": patched_attention,
    "attention": replaced_attention,
    "watch": watched_attention,
    "pre_cfg": pre_cfg,
    "post_cfg": post_cfg,
    "cfg": own_cfg,
    "conds": own_conds,
    "predict_noise": wrapper("predict_noise"),
    "calc_cond_batch": wrapper("calc_cond_batch"),
    "prepare_state": callback("on_prepare_state"),
    "apply_hooks": callback("on_apply_hooks"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_models_take_the_stock_path(comfy, direct, change, caplog):
    """The log says once why."""
    caplog.set_level("INFO")
    loader = graphs.load(comfy)
    run = {"model": stock(comfy, loader, change)}
    got, _ = comfy.run(*(graphs.sample(comfy, loader, graphs.empty(comfy, loader), seed=s, **run) for s in (1, 2)))
    assert direct == [False] * 2 and got["samples"].min() >= 1
    (reason,) = [r.getMessage() for r in caplog.records if "stock path, which is slower" in r.getMessage()]
    assert "MODEL" in reason or "guider" in reason, reason


@pytest.mark.parametrize("name", ["area", "mask", "range", "strength", "hooks", "default"])
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_special_prompts_take_the_stock_path(comfy, direct, name, side):
    loader = graphs.load(comfy)
    prompt = {side: comfy.give(conditioning(comfy, loader, **special(name)))}
    comfy.run(graphs.ksampler(comfy, loader, graphs.empty(comfy, loader, 36, 20), **prompt))
    assert direct == [False]


def test_several_and_uneven_prompts_take_the_stock_path(comfy, direct):
    loader, latent = graphs.load(comfy), graphs.empty(comfy, graphs.load(comfy))
    one = conditioning(comfy, loader)
    hidden, more = one[0]
    rows = [[hidden.repeat(2, 1, 1), {**more, "pooled_output": more["pooled_output"].repeat(2, 1)}]]
    for positive in (one + conditioning(comfy, loader, "two blue cats"), joined(comfy, loader, 2), rows):
        comfy.run(graphs.ksampler(comfy, loader, latent, positive=comfy.give(positive)))
    assert direct == [False] * 3


def test_little_memory_goes_comfyuis_own_way(comfy, direct, monkeypatch):
    loader = graphs.load(comfy)
    monkeypatch.setattr(comfy.module("nodes.host.compat"), "free_memory", lambda *_: 0)
    comfy.run(graphs.ksampler(comfy, loader, graphs.empty(comfy, loader)))
    assert direct == [False]


@pytest.mark.parametrize("name", ["sampling_function", "calc_cond_batch", "cfg_function"])
def test_replaced_functions_of_comfyui_are_called(comfy, direct, monkeypatch, name):
    """As other packs do it."""
    from comfy import samplers

    loader, calls, original = graphs.load(comfy), [], getattr(samplers, name)
    monkeypatch.setattr(samplers, name, lambda *args, **kw: calls.append(1) or original(*args, **kw))
    comfy.run(graphs.ksampler(comfy, loader, graphs.empty(comfy, loader)))
    assert direct == [False] and len(calls) >= 6


@pytest.mark.parametrize("guider", ["CFGGuider", "BasicGuider", "DualCFGGuider", "PerpNegGuider"])
def test_guiders(comfy, direct, guider):
    """Only those that do nothing of their own."""
    loader = graphs.load(comfy)
    text, latent = graphs.prompts(comfy, loader), graphs.empty(comfy, loader)
    wires = {
        "CFGGuider": {"positive": text, "negative": (text, 1), "cfg": 3.0},
        "BasicGuider": {"conditioning": text},
        "DualCFGGuider": {
            "cond1": text, "cond2": text, "negative": (text, 1), "cfg_conds": 2.0, "cfg_cond2_negative": 3.0,
            "style": "regular",
        },
        "PerpNegGuider": {
            "positive": text, "negative": (text, 1), "empty_conditioning": (text, 1), "cfg": 3.0, "neg_scale": 1.0
        },
    }[guider]  # fmt: skip

    def node(model):
        return comfy.node(
            "SamplerCustomAdvanced",
            noise=comfy.node("RandomNoise", noise_seed=3),
            guider=comfy.node(guider, model=model, **wires),
            sampler=graphs.sampler(comfy),
            sigmas=comfy.node("AmusedScheduler", model=loader, schedule="cosine", steps=6, denoise=1.0),
            latent_image=latent,
        )

    one, two = comfy.run(node(loader), node(stock(comfy, loader)))
    assert same(one, two) and sorted(direct) == [False, guider in ("CFGGuider", "BasicGuider")]


@pytest.mark.parametrize("change", [lambda clone: None, post_cfg], ids=["direct", "stock"])
def test_a_run_is_cancelled_within_a_step(comfy, change):
    """Where ComfyUI's own layers look for it."""
    from comfy import ops
    from comfy.model_management import interrupt_current_processing

    if not hasattr(ops, "run_every_op"):
        pytest.skip("this ComfyUI does not look within a step")
    loader = graphs.load(comfy)
    model, steps, layers = comfy.run(loader).clone(), [], []
    change(model)
    uvit = model.model.diffusion_model

    def embedded(*_):
        steps.append(1)
        interrupt_current_processing(len(steps) == 3)

    hooks = [
        uvit.embed.register_forward_hook(embedded),
        uvit.project_from_hidden.register_forward_hook(lambda *_: layers.append(1)),
    ]
    try:
        with pytest.raises(GraphError) as caught:
            comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader), model=comfy.give(model)))
    finally:
        for hook in hooks:
            hook.remove()
    assert caught.value.kind == "interrupted" and (len(steps), len(layers)) == (3, 2)
    assert not model.model.condition_cache._cached


def test_a_replaced_forward_is_called(comfy, direct, monkeypatch):
    """As caching packs do it."""
    loader, calls = graphs.load(comfy), []
    uvit = comfy.run(loader).model.diffusion_model
    original = uvit.forward
    monkeypatch.setattr(uvit, "forward", lambda *args, **kw: calls.append(1) or original(*args, **kw), raising=False)
    comfy.run(graphs.ksampler(comfy, loader, graphs.empty(comfy, loader)))
    assert direct == [False] and len(calls) == 6


def test_another_wrapper_around_the_model_is_called(comfy, direct):
    """As custom samplers do it."""
    loader, calls = graphs.load(comfy), []
    own = comfy.module("nodes.host.sample.sampler")

    class Wrapped(SimpleNamespace):
        def __call__(self, *args, **kw):
            calls.append(1)
            return self.inner_model(*args, **kw)

    def sampler(model, *args, **kw):
        return own.sample_amused(Wrapped(inner_model=model), *args, **kw)

    from comfy.samplers import KSAMPLER

    latent = graphs.empty(comfy, loader)
    runs = ({"sampler": comfy.give(KSAMPLER(sampler))}, {})
    got, want = comfy.run(*(graphs.custom(comfy, loader, latent, **more) for more in runs))
    assert same(got, want) and len(calls) == 6 and sorted(direct) == [False, True]
