"""The node 'aMUSEd speed': the tokens of `generate`, and of the stock path."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from amused_core import load_model
from amused_core.sampling.schedule import mask_ratios
from tests.comfy import graphs
from tests.comfy.graphs import same
from tests.comfy.harness import GraphError
from tests.comfy.runs import QUERY, SAMPLERS, partly, speed, stock, wrapped_function


@pytest.fixture(scope="module", params=["tiny", "tiny512"])
def shape(request, comfy):
    """The model's name, and the same model without ComfyUI."""
    return request.param, load_model(comfy.models / "amused" / request.param, device="cpu")


@pytest.mark.parametrize("build", SAMPLERS.values(), ids=SAMPLERS)
def test_neutral_settings_change_nothing(comfy, start, build):
    loader, text, latent = start
    plain, got = comfy.run(
        build(comfy, loader, latent, text), build(comfy, loader, latent, text, model=speed(comfy, loader))
    )
    assert same(plain, got)


SETTINGS = {
    "first half": ({"guidance_to": 0.5}, {"cfg_interval": (0, 0.5)}),
    "middle": ({"guidance_from": 0.2, "guidance_to": 0.7}, {"cfg_interval": (0.2, 0.7)}),
    "every second": ({"guidance_every": 2}, {"cfg_every": 2}),
    "every third of a part": (
        {"guidance_from": 0.1, "guidance_to": 0.9, "guidance_every": 3},
        {"cfg_interval": (0.1, 0.9), "cfg_every": 3},
    ),
}


@pytest.mark.parametrize("task", ["text", "image", "mask"])
@pytest.mark.parametrize("name", SETTINGS)
def test_same_as_generate(comfy, shape, name, task):
    """Also from the middle of the schedule, and under a mask, where the schedule is another."""
    model, headless = shape
    here, there = SETTINGS[name]
    picture, mask = graphs.picture(2), graphs.block_mask().expand(2, -1, -1)
    loader = graphs.load(comfy, model)
    start = graphs.empty(comfy, loader, batch=2)
    given, denoise = {}, 1.0
    if task != "text":
        start = comfy.node("VAEEncode", pixels=comfy.give(picture), vae=(loader, 2))
        given, denoise = {"image": picture, "strength": 0.6}, 0.6
    if task == "mask":
        start = comfy.node("SetLatentNoiseMask", samples=start, mask=comfy.give(mask))
        given["mask"] = mask
    plain, want = (
        headless.generate("a red apple", **given, steps=12, cfg=3.0, seed=11, batch_size=2, **more).tokens
        for more in ({}, there)
    )
    sped = speed(comfy, loader, **here)
    node = graphs.sample(comfy, loader, start, model=sped, seed=11, steps=12, denoise=denoise)
    assert torch.equal(graphs.tokens(comfy.run(node)), want)
    if task == "text":
        assert not torch.equal(plain, want), "the settings have no effect here"


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({}, [4, 4, 4, 4, 4, 4]),
        ({"guidance_to": 0.5}, [4, 4, 4, 2, 2, 2]),
        ({"guidance_from": 0.5}, [2, 2, 2, 4, 4, 4]),
        ({"guidance_every": 2}, [4, 2, 4, 2, 4, 2]),
        ({"guidance_every": 3, "guidance_from": 0.16}, [2, 4, 2, 2, 4, 2]),
        ({"guidance_every": 100}, [4, 2, 2, 2, 2, 2]),
    ],
)
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("build", SAMPLERS.values(), ids=SAMPLERS)
def test_rows_are_left_out(comfy, start, settings, rows, build, direct):
    """The first step, in which every cell is masked, is worked out for one of the two pictures."""
    loader, text, _ = start
    patcher, seen = comfy.run(loader).clone(), []
    if not direct:
        wrapped_function(patcher)
    hook = patcher.model.diffusion_model.embed.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    try:
        model = speed(comfy, comfy.give(patcher), **settings)
        comfy.run(build(comfy, loader, graphs.empty(comfy, loader, batch=2), text, model=model))
    finally:
        hook.remove()
    assert seen == ([rows[0] // 2, *rows[1:]] if direct else rows)


def test_every_boundary_is_met(comfy):
    """A step that begins at `guidance_to` has no guidance any more, whatever the rounding of its ratio."""
    guidance = comfy.module("nodes.host.sample.speed").GuidanceLimit
    for schedule in ("cosine", "linear"):
        for steps in (2, 7, 100, 1000):
            ratios = mask_ratios(steps, schedule)
            for step in {1, steps // 3, steps // 2, steps - 1} - {0}:
                one = guidance((0.0, step / steps), 1)
                one._begin(ratios)
                seen = []
                one._predict = lambda conds, args, seen=seen: seen.append(conds[1]) or [torch.zeros(1), torch.zeros(1)]
                for ratio in ratios[max(step - 1, 0) : step + 1]:
                    one({"conds": [1, 2], "input": torch.zeros(1), "sigma": ratio[None]})
                assert seen == [2, None][: len(seen)], (schedule, steps, step)


def advanced(comfy, loader, latent, text, model, seed=3, guider=None):
    """SamplerCustomAdvanced, with a CFGGuider unless told otherwise."""
    return comfy.node(
        "SamplerCustomAdvanced",
        noise=comfy.node("RandomNoise", noise_seed=seed),
        guider=guider or comfy.node("CFGGuider", model=model, positive=text, negative=(text, 1), cfg=3.0),
        sampler=graphs.sampler(comfy),
        sigmas=comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=6, denoise=1.0),
        latent_image=latent,
    )


def seeded(build, seed):
    return {"noise_seed" if build is graphs.custom else "seed": seed}


@pytest.mark.parametrize("cloned", [False, True])
@pytest.mark.parametrize("build", [*SAMPLERS.values(), advanced], ids=[*SAMPLERS, "advanced"])
def test_a_second_run_is_as_the_first(comfy, start, build, cloned):
    """Also through a node that clones the faster MODEL, whose options are then copies."""
    loader, text, latent = start
    settings = {"int8": True, "guidance_to": 0.7, "guidance_every": 4}

    def faster(patcher):
        model = speed(comfy, comfy.give(patcher), **settings)
        return comfy.give(comfy.run(comfy.node("RescaleCFG", model=model, multiplier=0.7) if cloned else model))

    used, new = faster(comfy.run(loader)), faster(comfy.run(loader).clone())
    for seed in (4, 5):
        last = comfy.run(build(comfy, loader, latent, text, model=used, **seeded(build, seed)))
    assert same(last, comfy.run(build(comfy, loader, latent, text, model=new, **seeded(build, 5))))


def test_a_run_that_was_broken_off_leaves_nothing(comfy, start):
    """The next one begins at a lower ratio, as if it went on."""
    from comfy.model_management import InterruptProcessingException

    loader, text, latent = start
    faster = comfy.module("nodes.host.sample.speed").faster
    given = comfy.give(graphs.latent(seed=8))

    def last(model):
        return comfy.run(graphs.sample(comfy, loader, given, text, model=comfy.give(model), denoise=0.5))

    def stop(value):
        if value == 2:
            raise InterruptProcessingException

    used = faster(comfy.run(loader), False, (0.0, 1.0), 4)
    comfy.on_progress = stop
    try:
        with pytest.raises(GraphError, match="interrupted"):
            comfy.run(graphs.sample(comfy, loader, latent, text, model=comfy.give(used)))
    finally:
        comfy.on_progress = None
    assert used.model_options["sampler_calc_cond_batch_function"]._difference is None
    assert same(last(used), last(faster(comfy.run(loader), False, (0.0, 1.0), 4)))


class Int8Runs:
    """Runs with 8-bit products, in ComfyUI and by the core alone, with every operand alike to the last bit.

    A last bit that differs changes what an input is rounded to, so that logits differ as much as int8 differs from
    fp32. So both have ComfyUI's attention here, and the core's text encoder.
    """

    def __init__(self, comfy, loader, headless, count):
        self.comfy, self.loader, self.headless, self.count = comfy, loader, headless, count
        headless.transformer.attend = comfy.module("nodes.host.model.transformer").attend

    def graph(self, model):
        """Tokens of 'aMUSEd sampler'."""
        texts = [self.headless.text.encode([prompt]) for prompt in ("a red apple", "")]
        positive, negative = (
            self.comfy.give([[hidden, {"pooled_output": pooled, "amused": True}]]) for hidden, pooled in texts
        )
        wires = {"model": speed(self.comfy, model, int8=True), "positive": positive, "negative": negative}
        latent = graphs.empty(self.comfy, self.loader, batch=self.count)
        return graphs.tokens(self.comfy.run(graphs.sample(self.comfy, self.loader, latent, **wires)))

    def core(self):
        """Tokens of the same run."""
        settings = {"steps": 6, "cfg": 3.0, "seed": 3, "batch_size": self.count, "width": 32, "height": 32}
        return self.headless.generate("a red apple", **settings, int8=True).tokens


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["tiny", "tiny512"])
def test_int8_is_the_cores(comfy, name, count):
    loader = graphs.load(comfy, name)
    runs = Int8Runs(comfy, loader, load_model(comfy.models / "amused" / name, device="cpu"), count)
    plain = graphs.sample(comfy, loader, graphs.empty(comfy, loader, batch=count))
    got = runs.graph(loader)
    assert torch.equal(got, runs.core())
    assert 0.3 < (got == graphs.tokens(comfy.run(plain))).float().mean() < 1, "near fp32, but not the same"


def test_int8_uses_patched_weights(comfy):
    """A LoRA's patch is in the weights when the 8-bit ones are made, and out of them again afterwards."""
    loader, headless = graphs.load(comfy), load_model(comfy.models / "amused" / "tiny", device="cpu")
    patcher, runs = comfy.run(loader), Int8Runs(comfy, loader, headless, 1)
    weight = headless.transformer.get_parameter(QUERY)
    delta = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    patched = patcher.clone()
    assert patched.add_patches({f"diffusion_model.{QUERY}": (delta,)})
    plain, changed, after = (runs.graph(comfy.give(model)) for model in (patcher, patched, patcher.clone()))
    assert torch.equal(plain, after) and torch.equal(plain, runs.core())
    with torch.no_grad():
        weight.add_(delta)
    assert torch.equal(changed, runs.core()) and not torch.equal(plain, changed)


def test_int8_follows_a_lora_put_on_after_it(comfy, start):
    """The order of the nodes does not matter."""
    loader, text, latent = start
    faster, patcher = comfy.module("nodes.host.sample.speed").faster, comfy.run(loader)
    delta = {f"diffusion_model.{QUERY}": (torch.randn(32, 32, generator=torch.Generator().manual_seed(0)),)}
    before, after = patcher.clone(), faster(patcher, True, (0.0, 1.0), 1)
    before.add_patches(delta)
    after.add_patches(delta)
    models = (faster(before, True, (0.0, 1.0), 1), after)
    one, two = comfy.run(*(graphs.sample(comfy, loader, latent, text, model=comfy.give(m)) for m in models))
    assert same(one, two)


GUIDERS = {"DualCFGGuider": "Guider_DualCFG", "PerpNegGuider": "Guider_PerpNeg", "CFGGuider": None, "BasicGuider": None}


@pytest.mark.parametrize("settings", [{"guidance_to": 0.5}, {"guidance_every": 2}, {}], ids=str)
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("name", GUIDERS)
def test_a_guider_that_guides_by_itself_is_told(comfy, start, caplog, name, settings, direct):
    """Its guidance cannot be limited; on the fast path and the stock path, with settings that limit nothing, too."""
    loader, text, latent = start
    model = speed(comfy, loader if direct else stock(comfy, loader), **settings)
    inputs = {
        "DualCFGGuider": {"cond1": text, "cond2": (text, 1), "cfg_conds": 3.0, "cfg_cond2_negative": 2.0},
        "PerpNegGuider": {"positive": text, "empty_conditioning": (text, 1), "cfg": 3.0, "neg_scale": 1.0},
        "CFGGuider": {"positive": text, "cfg": 3.0},
        "BasicGuider": {"conditioning": text},
    }[name]
    inputs |= {"style": "regular"} if name == "DualCFGGuider" else {}
    inputs |= {"negative": (text, 1)} if name != "BasicGuider" else {}
    comfy.run(advanced(comfy, loader, latent, text, model, guider=comfy.node(name, model=model, **inputs)))
    line = f"leaves out no guidance of the guider {GUIDERS[name]}"
    assert caplog.text.count(line) == caplog.text.count("leaves out no guidance") == bool(GUIDERS[name] and settings)


def test_int8_is_refused_where_weights_are_elsewhere(comfy):
    from comfy import model_management

    uvit_module = comfy.module("nodes.host.model.transformer")
    patcher = comfy.run(graphs.load(comfy)).clone()
    uvit, tokens = patcher.model.diffusion_model, torch.zeros(1, 4, 4, dtype=torch.int64)
    given = (tokens, torch.zeros(1, 3, 32), torch.zeros(1, 32), torch.zeros(1, 5), {uvit_module.INT8: True})
    comfy.fresh()
    model_management.unload_all_models()
    assert partly(patcher, 0.5)
    try:
        with pytest.raises(ValueError, match="int8 needs the whole model in memory in fp32; remove 'aMUSEd speed'"):
            uvit(*given)
    finally:
        patcher.unpatch_model()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_int8_is_refused_in_half_precision(comfy, dtype):
    loader = graphs.load(comfy, dtype=dtype)
    with pytest.raises(GraphError, match=r"int8 works in fp32 on a CPU only, and this model is in \w+ on 'cpu'.*\.$"):
        comfy.run(speed(comfy, loader, int8=True))
    text, latent = graphs.prompts(comfy, loader), graphs.empty(comfy, loader)
    model = speed(comfy, loader, guidance_to=0.5)
    assert comfy.run(graphs.sample(comfy, loader, latent, text, model=model))["samples"].min() >= 1


def test_other_models_are_refused(comfy):
    with pytest.raises(GraphError, match="This MODEL is a dict, not aMUSEd; connect the MODEL of 'Load aMUSEd'."):
        comfy.run(speed(comfy, comfy.give(SimpleNamespace(model={}))))


@pytest.mark.parametrize(("first", "last"), [(0.5, 0.5), (0.7, 0.3), (1.0, 1.0), (0.0, 0.0)])
def test_an_empty_interval_is_refused(comfy, first, last):
    with pytest.raises(
        GraphError, match=f"guidance_from is {first:g} and guidance_to {last:g}; guidance_to must be .*one.$"
    ):
        comfy.run(speed(comfy, graphs.load(comfy), guidance_from=first, guidance_to=last))


def test_neutral_settings_add_nothing(comfy):
    """Nothing slows the plain model down."""
    patcher = comfy.run(speed(comfy, graphs.load(comfy)))
    assert "sampler_calc_cond_batch_function" not in patcher.model_options
    assert comfy.module("nodes.host.model.transformer").INT8 not in patcher.model_options["transformer_options"]


def test_the_given_model_is_left_alone(comfy):
    loader = graphs.load(comfy)
    before, faster = comfy.run(loader, speed(comfy, loader, int8=True, guidance_to=0.5))
    assert comfy.module("nodes.host.model.transformer").INT8 in faster.model_options["transformer_options"]
    assert comfy.module("nodes.host.model.transformer").INT8 not in before.model_options["transformer_options"]
    assert "sampler_calc_cond_batch_function" not in before.model_options
