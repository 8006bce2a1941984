"""Memory, offloading and cancelling: everything goes through ComfyUI's model management."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from tests.comfy import graphs
from tests.comfy.harness import GraphError
from tests.comfy.runs import logits, partly


@pytest.fixture
def management(comfy):
    """ComfyUI's model management, with nothing loaded."""
    from comfy import model_management

    comfy.fresh()
    model_management.unload_all_models()
    return model_management


def loaded(management):
    return {type(entry.model.model).__name__ for entry in management.current_loaded_models}


def whole_graph(comfy, pixels=None, **settings):
    """Every part of a checkpoint is used."""
    loader, pixels = graphs.load(comfy), pixels or comfy.give(graphs.picture())
    encoded = comfy.node("VAEEncode", pixels=pixels, vae=(loader, 2))
    return loader, graphs.sample(comfy, loader, encoded, denoise=0.5, **settings)


def test_all_parts_are_managed_and_can_be_freed(comfy, management):
    _, run = whole_graph(comfy)
    before = comfy.run(run)
    assert loaded(management) == {"AmusedBaseModel", "AmusedClipModel", "FirstStage"}
    management.unload_all_models()  # what POST /free does
    assert not management.current_loaded_models
    comfy.fresh()
    assert torch.equal(comfy.run(run)["samples"], before["samples"])


def test_freed_models_leave_memory(comfy, management):
    loader, run = whole_graph(comfy)
    values = comfy.run(loader, (loader, 1), (loader, 2), run)
    refs = [weakref.ref(values[0].model), weakref.ref(values[1].cond_stage_model), weakref.ref(values[2])]
    del values
    management.unload_all_models()
    comfy.fresh()
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]


def test_many_prompts_do_not_grow_memory(comfy, management):
    def tensors():
        gc.collect()
        return sum(1 for thing in gc.get_objects() if type(thing) is torch.Tensor)

    counts, pixels = [], comfy.give(graphs.picture())
    for seed in range(24):
        _, run = whole_graph(comfy, pixels, seed=seed, steps=2)
        comfy.run(run)
        if seed in (7, 23):
            counts.append(tensors())
    assert counts[1] <= counts[0]


@pytest.mark.parametrize("model", ["tiny", "tiny512"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7])
def test_partial_loading(comfy, management, model, share):
    """What does not fit can be cast on the fly, layer by layer, and the logits are the same but for rounding."""
    loader = graphs.load(comfy, model)
    patcher, text = comfy.run(loader, graphs.prompts(comfy, loader))
    want = logits(patcher, text)
    outside = partly(patcher, share)
    assert outside, "the model was to be loaded in part only"
    assert [type(module).__name__ for module in outside if not module.comfy_cast_weights] == []
    torch.testing.assert_close(logits(patcher, text), want, atol=1e-5, rtol=1e-5)
    patcher.unpatch_model(torch.device("cpu"))


def test_merges_under_partial_loading(comfy, management):
    """Weights under any name are merged, whether they fit or not."""
    loader = graphs.load(comfy)
    merged = comfy.node("ModelMergeSimple", model1=loader, model2=graphs.load(comfy, "tiny8"), ratio=0.5)
    plain, merged, text = comfy.run(loader, merged, graphs.prompts(comfy, loader))
    without = logits(plain, text)
    management.load_models_gpu([merged], force_full_load=True)
    want = logits(merged, text)
    management.unload_all_models()
    for share in (0.01, 0.5):
        partly(merged, share)
        torch.testing.assert_close(logits(merged, text), want, atol=1e-4, rtol=1e-4)
        merged.unpatch_model(torch.device("cpu"))
    assert not torch.allclose(without, want, atol=1e-2)
    assert torch.equal(logits(plain, text), without), "unloading takes the merge back"


def test_cancel_stops_within_a_step(comfy):
    from comfy.model_management import interrupt_current_processing

    loader = graphs.load(comfy)
    run = graphs.sample(comfy, loader, graphs.empty(comfy, loader), steps=50)
    comfy.on_progress = lambda step: interrupt_current_processing(step == 3)
    try:
        with pytest.raises(GraphError) as caught:
            comfy.run(run)
    finally:
        comfy.on_progress = None
    assert caught.value.kind == "interrupted"
    assert len(comfy.steps) <= 4
    assert comfy.run(run)["samples"].min() >= 1, "the next prompt works"


def test_half_precision_weights_in_full_precision(comfy, management):
    """On a CPU fp16 weights are computed in fp32: the logits are those of the rounded weights."""
    loader = graphs.load(comfy, dtype="fp16")
    patcher, text = comfy.run(loader, graphs.prompts(comfy, loader))
    full = comfy.run(graphs.load(comfy))
    got = logits(patcher, text)
    assert got.dtype is torch.float32
    rounded = {key: value.half().float() for key, value in full.model.diffusion_model.state_dict().items()}
    full.model.diffusion_model.load_state_dict(rounded, assign=True)
    torch.testing.assert_close(got, logits(full, text), atol=1e-4, rtol=1e-4)
    comfy.fresh()
