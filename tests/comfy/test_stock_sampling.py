"""Stock samplers, guiders, schedulers and noise nodes on an aMUSEd model."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs
from tests.comfy.graphs import same


def advanced(comfy, loader, latent, guider, **settings):
    """SamplerCustomAdvanced with the seed of `graphs.custom`."""
    own = {
        "noise": comfy.node("RandomNoise", noise_seed=3),
        "sampler": graphs.sampler(comfy),
        "sigmas": comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=6, denoise=1.0),
    }
    return comfy.node("SamplerCustomAdvanced", guider=guider, latent_image=latent, **(own | settings))


def test_one_sampler_by_many_ways(comfy, start):
    """KSampler, SamplerCustom and SamplerCustomAdvanced give the same tokens."""
    loader, text, latent = start
    guider = comfy.node("CFGGuider", model=loader, positive=text, negative=(text, 1), cfg=3.0)
    one, two, three = comfy.run(
        graphs.ksampler(comfy, loader, latent, text),
        graphs.custom(comfy, loader, latent, text),
        advanced(comfy, loader, latent, guider),
    )
    assert same(one, two) and same(one, three)


def test_denoised_output_is_the_result(comfy, start):
    loader, text, latent = start
    run = graphs.custom(comfy, loader, latent, text)
    out, denoised = comfy.run(run, (run, 1))
    assert same(out, denoised)


def test_guiders(comfy, start):
    loader, text, latent = start
    wires = {"model": loader, "negative": (text, 1)}
    dual = {"model": loader, "cond1": text, "cond2": text, "negative": (text, 1), "cfg_conds": 3.0}
    guiders = [
        comfy.node("BasicGuider", model=loader, conditioning=text),
        comfy.node("CFGGuider", **wires, positive=text, cfg=1.0),
        comfy.node("DualCFGGuider", **dual, cfg_cond2_negative=2.0, style="regular"),
        comfy.node("PerpNegGuider", **wires, positive=text, empty_conditioning=(text, 1), cfg=3.0, neg_scale=1.0),
    ]
    results = comfy.run(*(advanced(comfy, loader, latent, guider) for guider in guiders))
    assert same(results[0], results[1]), "no guidance is guidance 1"
    assert all(result["samples"].min() >= 1 for result in results)


SCHEDULERS = ["simple", "sgm_uniform", "normal", "beta", "ddim_uniform", "linear_quadratic", "kl_optimal", "karras"]


@pytest.mark.parametrize("name", [*SCHEDULERS, "exponential"])
def test_stock_schedulers(comfy, start, name):
    loader, text, latent = start
    got = comfy.run(graphs.ksampler(comfy, loader, latent, text, scheduler=name))
    assert got["samples"].min() >= 1


@pytest.mark.parametrize("name", ["simple", "sgm_uniform"])
def test_even_stock_schedulers_are_the_models_schedule(comfy, start, name):
    loader, _, _ = start
    own = comfy.node("AmusedScheduler", model=loader, schedule="cosine", steps=10, denoise=1.0)
    stock = comfy.node("BasicScheduler", model=loader, scheduler=name, steps=10, denoise=1.0)
    listed = comfy.node("BasicScheduler", model=loader, scheduler="amused", steps=10, denoise=1.0)
    own, stock, listed = comfy.run(own, stock, listed)
    assert torch.equal(own, listed)
    torch.testing.assert_close(own, stock, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("steps", "denoise"), [(12, 0.01), (600, 0.5)])
def test_a_small_denoise_takes_the_end_of_a_long_schedule(comfy, start, steps, denoise):
    """ComfyUI asks its schedulers for `steps / denoise` steps, which may be more than a run can have."""
    loader, text, _ = start
    run = {"steps": steps, "denoise": denoise}
    latent = comfy.give(graphs.latent())
    sigmas = comfy.node("BasicScheduler", model=loader, scheduler="amused", **run)
    ratios, one, two = comfy.run(
        sigmas,
        graphs.ksampler(comfy, loader, latent, text, **run),
        graphs.custom(comfy, loader, latent, text, sigmas=sigmas),
    )
    done = 1 - torch.arange(steps, -1, -1) / int(steps / denoise)
    torch.testing.assert_close(ratios, torch.cos(done * torch.pi / 2), atol=1e-6, rtol=0)
    assert same(one, two)


def test_a_run_of_too_many_steps_is_refused(comfy, start):
    loader, text, latent = start
    graphs.refused(comfy, graphs.ksampler(comfy, loader, latent, text, steps=1200), "1200 steps; allowed are 1 to 1000")


@pytest.mark.parametrize("build", [graphs.ksampler, graphs.custom])
def test_sigmas_that_are_no_numbers_are_refused(comfy, start, build):
    """'kl_optimal' divides by the number of steps less one."""
    loader, text, latent = start
    sigmas = comfy.node("BasicScheduler", model=loader, scheduler="kl_optimal", steps=1, denoise=1.0)
    given = {"sigmas": sigmas} if build is graphs.custom else {"scheduler": "kl_optimal", "steps": 1}
    graphs.refused(comfy, build(comfy, loader, latent, text, **given), "NaN", "'kl_optimal'", "1 step;")


def test_two_stages(comfy, start):
    """A run cut in two (SplitSigmas, KSamplerAdvanced): the first keeps a share masked, the second keeps its tokens."""
    loader, text, latent = start
    sigmas = comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=6, denoise=1.0)
    split = comfy.node("SplitSigmas", sigmas=sigmas, step=3)
    first = graphs.custom(comfy, loader, latent, text, sigmas=split)
    second = graphs.custom(comfy, loader, first, text, sigmas=(split, 1), add_noise=False)
    own = {"model": loader, "positive": text, "negative": (text, 1), "noise_seed": 3, "steps": 6, "cfg": 3.0}
    own |= {"sampler_name": "amused", "scheduler": "amused"}
    stage = {"start_at_step": 0, "end_at_step": 3, "add_noise": "enable", "return_with_leftover_noise": "enable"}
    third = comfy.node("KSamplerAdvanced", latent_image=latent, **own, **stage)
    stage = {"start_at_step": 3, "end_at_step": 99, "add_noise": "disable", "return_with_leftover_noise": "disable"}
    fourth = comfy.node("KSamplerAdvanced", latent_image=third, **own, **stage)
    first, second, third, fourth = comfy.run(first, second, third, fourth)
    assert same(first, third)
    known = first["samples"] > 0
    assert int((~known).sum()) == int(torch.cos(torch.tensor(torch.pi / 4)) * 64)
    for last in (second, fourth):
        assert last["samples"].min() >= 1
        assert torch.equal(last["samples"][known], first["samples"][known])


def test_second_stage_does_not_depend_on_the_batch(comfy, start):
    loader, text, _ = start
    latent = graphs.latent(3)
    latent["samples"][:, :, 2:6] = 0
    alone = {"samples": latent["samples"][1:2]}
    runs = [graphs.custom(comfy, loader, comfy.give(value), text, add_noise=False) for value in (latent, alone)]
    batch, one = comfy.run(*runs)
    assert torch.equal(batch["samples"][1:2], one["samples"])
    assert torch.equal(batch["samples"][:, :, :2], latent["samples"][:, :, :2])


def test_add_noise_masks_tokens(comfy, start):
    loader, text, _ = start
    sigmas = comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=6, denoise=0.5)
    noise = comfy.node("RandomNoise", noise_seed=1)
    latent = graphs.latent(2)
    noisy = comfy.node("AddNoise", model=loader, noise=noise, sigmas=sigmas, latent_image=comfy.give(latent))
    run = graphs.custom(comfy, loader, noisy, text, sigmas=sigmas, add_noise=False)
    noisy, result = comfy.run(noisy, run)
    masked = noisy["samples"] == 0
    assert masked.flatten(1).sum(1).tolist() == [int(torch.cos(torch.tensor(torch.pi / 4)) * 64)] * 2
    assert torch.equal(result["samples"][~masked], latent["samples"][~masked]) and result["samples"].min() >= 1


def test_empty_latents_of_other_models(comfy, start):
    """All-zero latents mean "everything masked" whatever their channels; stock nodes count 8 pixels a cell."""
    loader, text, _ = start
    stock = comfy.node("EmptyLatentImage", width=64, height=64, batch_size=1)
    sd3 = comfy.node("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    runs = [graphs.sample(comfy, loader, latent, text) for latent in (graphs.empty(comfy, loader), stock, sd3)]
    own, *others = comfy.run(*runs)
    assert all(same(own, other) for other in others)
