"""How graphs run: what is run again, lists and batches, several models, little memory, cancelling, and metadata."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.comfy import graphs
from tests.comfy.graphs import same
from tests.comfy.harness import ANY, STORE, GraphError

# Nodes that do not fit into a graph of lists: they write weights or folders, run for long, or start lists themselves.
APART = {"AmusedSaveModel", "AmusedBatch", "AmusedRows"}


class Spread:
    """Starts a graph: a list from the test, whose items go through it one by one."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"key": ("STRING", {})}})
    RETURN_TYPES = (ANY,)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "spread"
    CATEGORY = "test"

    def spread(self, key):
        return (STORE[key],)


class Gather:
    """A list as one value."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"value": (ANY,)}})
    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,)
    FUNCTION = "gather"
    CATEGORY = "test"

    def gather(self, value):
        return (SimpleNamespace(items=value),)


@pytest.fixture(autouse=True)
def fresh(comfy):
    """Nothing is cached or loaded, and the test's own nodes are there."""
    from comfy import model_management

    comfy.nodes.NODE_CLASS_MAPPINGS.update(Spread=Spread, Gather=Gather)
    comfy.fresh()
    model_management.unload_all_models()
    return comfy


def decoded(comfy, run, loader):
    """AmusedVQDecode."""
    return comfy.node("AmusedVQDecode", samples=run, vae=(loader, 2), tile_size=0)


def executed(comfy, *outputs):
    """The kinds of nodes that ran for these outputs, and their values."""
    comfy.server.events.clear()
    prompt = {}
    for output in outputs:
        comfy._collect(output[0] if isinstance(output, tuple) else output, prompt)
    values = comfy.run(*outputs)
    kinds = {node: entry["class_type"] for node, entry in prompt.items()}
    ran = [data["node"] for event, data in comfy.server.events if event == "executing" and data["node"] in kinds]
    return sorted(kinds[node] for node in ran), values


def test_only_what_changed_runs_again(comfy):
    """Each kind of change runs its node and what depends on it, and nothing else."""
    loader = graphs.load(comfy)
    text, start = graphs.prompts(comfy, loader), graphs.empty(comfy, loader)
    run = comfy.node("AmusedTrace", **graphs.sample(comfy, loader, start, text).inputs)
    picture = decoded(comfy, run, loader)
    shown = {"vae": (loader, 2), "step": 0, "opacity": 0.7, "legend": False}
    heat = comfy.node("AmusedTraceMap", trace=(run, 1), kind="order", **shown)
    everything = ["AmusedEmptyLatent", "AmusedLoader", "AmusedTextEncode", "AmusedTrace", "AmusedTraceMap"]
    assert executed(comfy, picture, heat)[0] == [*everything, "AmusedVQDecode"]
    assert executed(comfy, picture, heat)[0] == []
    for node, change, ran in (
        (heat, {"opacity": 0.5}, ["AmusedTraceMap"]),
        (run, {"seed": 8}, ["AmusedTrace", "AmusedTraceMap", "AmusedVQDecode"]),
        (text, {"positive": "a dog"}, ["AmusedTextEncode", "AmusedTrace", "AmusedTraceMap", "AmusedVQDecode"]),
        (start, {"width": 40}, ["AmusedEmptyLatent", "AmusedTrace", "AmusedTraceMap", "AmusedVQDecode"]),
        (picture, {"tile_size": 64}, ["AmusedVQDecode"]),
        (loader, {"dtype": "bf16"}, [*everything, "AmusedVQDecode"]),
    ):
        node.inputs.update(change)
        assert executed(comfy, picture, heat)[0] == ran, change


def through_every_node(comfy, pick):
    """A graph with every node of the pack; `pick` makes an input of the values for the three runs."""
    loader = comfy.node(
        "AmusedLoader", model=pick(["tiny", "tiny512", "tiny"]), dtype="auto", text_encoder_dtype="auto"
    )
    model = comfy.node(
        "AmusedLoraLoader", model=loader, lora_name="none", strength_model=1.0, strength_clip=1.0, clip=(loader, 1)
    )
    vae, wires = (loader, 2), {"model": model, "clip": (model, 1)}
    micro = {"width": 0, "height": 0, "crop_top": 0, "crop_left": 0, "aesthetic_score": 6.0}
    text = comfy.node(
        "AmusedTextEncode", clip=wires["clip"], positive=pick(["a cat", "two dogs", "red"]), negative="x", **micro
    )
    told = comfy.node("AmusedMicroConditioning", conditioning=text, **(micro | {"width": pick([30, 60, 90])}))
    start = comfy.node("AmusedEmptyLatent", model=model, width=pick([32, 24, 32]), height=24, batch_size=2)
    settings = {"positive": told, "negative": (text, 1), "seed": pick([1, 2, 3]), "steps": 3}
    run = graphs.sample(comfy, model, start, text, **settings)
    traced = comfy.node("AmusedTrace", **run.inputs)
    spared = {"guidance_from": 0.0, "guidance_to": pick([0.5, 0.7, 0.9]), "guidance_every": 2}
    fast = comfy.node("AmusedSpeed", model=model, int8=pick([False, True, False]), **spared)
    fast = graphs.sample(comfy, fast, start, text, **settings)
    scheduler = comfy.node("AmusedScheduler", model=model, schedule="auto", steps=pick([2, 3, 4]), denoise=1.0)
    select = comfy.node(
        "AmusedSamplerSelect", temperature_start=pick([0.0, 1.0, 5.0]), temperature_end=0.0, seeding="per_image"
    )
    custom = graphs.custom(comfy, model, start, text, sampler=select, sigmas=scheduler)
    image = comfy.node("AmusedVQDecode", samples=run, vae=vae, tile_size=0)
    encoded = comfy.node("AmusedVQEncode", pixels=image, vae=vae, sides="crop", tile_size=0)
    mask = comfy.give(graphs.block_mask(24, 32))
    inpaint = comfy.node(
        "AmusedInpaintMask", pixels=image, mask=mask, vae=vae, grow=pick([0, 1, 2]), invert=False, sides="crop"
    )
    joined = comfy.node(
        "AmusedInpaintComposite", original=(inpaint, 2), generated=image, mask=(inpaint, 1), feather=pick([0, 4, 8])
    )
    trace = {"trace": (traced, 1), "vae": vae}
    shown = {"step": pick([0, 1, 2]), "opacity": 0.7, "legend": False}
    heat = comfy.node("AmusedTraceMap", kind=pick(["order", "confidence", "entropy"]), **trace, **shown)
    word = comfy.node("AmusedWordAttention", word=pick(["a", "dogs", "red"]), **trace, **shown)
    frames = comfy.node("AmusedTraceFrames", undecided=pick(["guess", "hidden", "guess"]), **trace)
    grid = comfy.node("AmusedTokenGrid", samples=run, image=image, ids=False)
    read = comfy.node("AmusedLoadTokens", file=pick(["t0.npy", "t1.npy", "t2.npy"]), model=model)
    values = [
        run,
        (traced, 0),
        fast,
        (custom, 1),
        image,
        encoded,
        inpaint,
        (inpaint, 1),
        joined,
        heat,
        word,
        frames,
        grid,
        read,
    ]
    return values, comfy.node("AmusedSaveTokens", samples=run, filename_prefix="amused/lists")


def content(value):
    """The tensor in a LATENT, IMAGE or MASK."""
    return value["samples"] if isinstance(value, dict) else value


def test_lists_and_batches_go_through_every_node(comfy, object_info):
    """A list of three, each a batch of two: every item is what it is alone."""
    for index in range(3):
        np.save(comfy.models / "input" / f"t{index}.npy", np.full((2, 6, 6), index))

    def spread(values):
        STORE[key := f"spread {values}"] = values
        return comfy.node("Spread", key=key)

    outputs, save = through_every_node(comfy, spread)
    prompt = {}
    for output in (*outputs, save):
        comfy._collect(output[0] if isinstance(output, tuple) else output, prompt)
    missing = set(object_info) - {node["class_type"] for node in prompt.values()} - APART
    assert not {name for name in missing if "Train" not in name}, "nodes that no list went through"
    got = [gathered.items for gathered in comfy.run(*(comfy.node("Gather", value=output) for output in outputs))]
    assert [len(items) for items in got] == [3] * len(outputs)
    for index in range(3):
        alone, _ = through_every_node(comfy, lambda values, index=index: values[index])
        for place, (items, value) in enumerate(zip(got, comfy.run(*alone), strict=True)):
            assert torch.equal(content(items[index]), content(value)), (index, place)
            assert len(content(value)) % 2 == 0, "a batch of two went through"
    comfy.finish(save)
    saved = [np.load(file) for file in sorted((comfy.models / "output" / "amused").glob("lists_*.npy"))]
    assert len(saved) == 3
    assert all(np.array_equal(array, graphs.tokens(item).numpy()) for array, item in zip(saved, got[0], strict=True))


def test_several_models_at_once(comfy):
    """Three are loaded and take turns; each draws what it draws alone."""
    from comfy import model_management

    loaders = [graphs.load(comfy, name) for name in ("tiny", "tiny512", "tiny8")]
    alone = []
    for loader in loaders:
        comfy.fresh()
        model_management.unload_all_models()
        alone.append(comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader), seed=4)))
    comfy.fresh()
    model_management.unload_all_models()
    together = comfy.run(*(graphs.sample(comfy, loader, graphs.empty(comfy, loader), seed=4) for loader in loaders))
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))
    kinds = [type(entry.model.model).__name__ for entry in model_management.current_loaded_models]
    assert kinds.count("AmusedBaseModel") == kinds.count("AmusedClipModel") == 3
    again = [graphs.sample(comfy, loader, graphs.empty(comfy, loader), seed=4, steps=6) for loader in reversed(loaders)]
    assert all(same(one, other) for one, other in zip(reversed(alone), comfy.run(*again), strict=True))


@pytest.fixture(params=["LOW_VRAM", "NO_VRAM"])
def little_memory(request, comfy, monkeypatch):
    """What --lowvram (with a full card) and --novram do, on a CPU: ComfyUI leaves weights out and brings them later."""
    import comfyui_version
    from comfy import model_management

    if request.param == "LOW_VRAM" and comfyui_version.__version__ == "0.3.52":
        pytest.skip("0.3.52 loads 128 MB of a model in any case, more than the test models have")

    def switch():
        monkeypatch.setattr(model_management, "vram_state", model_management.VRAMState[request.param])
        monkeypatch.setattr(model_management, "is_device_cpu", lambda device: False)
        monkeypatch.setattr(model_management, "get_free_memory", lambda *args, **_: (0, 0) if len(args) > 1 else 0)

    return switch


@pytest.mark.parametrize("model", ["tiny", "tiny512"])
def test_little_memory(comfy, little_memory, model, monkeypatch):
    """The same tokens and pictures, with a merge that is applied on the fly."""
    from comfy import model_management

    loader, pixels = graphs.load(comfy, model, "fp32"), comfy.give(graphs.picture(2))
    merged = comfy.node("ModelMergeSimple", model1=loader, model2=graphs.load(comfy, model, "bf16"), ratio=0.5)
    own = comfy.node("AmusedVQEncode", pixels=pixels, vae=(loader, 2), sides="crop", tile_size=0)
    text = graphs.prompts(comfy, loader)

    def run():
        sampled = graphs.sample(comfy, merged, own, text, denoise=0.7)
        return comfy.run(merged, sampled, decoded(comfy, sampled, loader))

    _, tokens, pictures = run()
    assert not same(tokens, comfy.run(own))
    model_management.unload_all_models()
    comfy.fresh()
    little_memory()
    patcher, low_tokens, low_pictures = run()
    assert patcher.model.model_lowvram, "nothing was left out"
    assert patcher.model.model_loaded_weight_memory < patcher.model_size()
    assert same(tokens, low_tokens) and torch.equal(pictures, low_pictures)
    monkeypatch.undo()
    model_management.unload_all_models()


@pytest.mark.parametrize("node", ["AmusedVQDecode", "VAEDecode", "AmusedTraceFrames"])
def test_cancel_stops_decoding_within_a_picture(comfy, node):
    """And the next prompt works."""
    from comfy.model_management import interrupt_current_processing

    loader = graphs.load(comfy)
    latent, vae = comfy.give(graphs.latent(12)), comfy.run((loader, 2))
    ending = {"samples": latent, "vae": (loader, 2)} | ({"tile_size": 0} if node == "AmusedVQDecode" else {})
    if node == "AmusedTraceFrames":
        run = graphs.sample(comfy, loader, graphs.empty(comfy, loader, batch=3), steps=4)
        traced = comfy.node("AmusedTrace", **run.inputs)
        comfy.run(traced)
        ending = {"trace": (traced, 1), "vae": (loader, 2), "undecided": "guess"}
    vq = vae.first_stage_model.vq
    plain, count = vq._decode, []

    def decode(tokens, *how):
        count.append(len(tokens))
        interrupt_current_processing(len(count) == 3)
        return plain(tokens, *how)

    vq._decode = decode
    try:
        with pytest.raises(GraphError) as caught:
            comfy.run(comfy.node(node, **ending))
    finally:
        del vq._decode
    assert caught.value.kind == "interrupted" and count == [1, 1, 1]
    assert len(comfy.run(comfy.node(node, **ending))) == 12


def saved_picture(comfy, prefix="run"):
    """A graph that ends in the stock SaveImage, and the newest picture after it ran."""
    loader = graphs.load(comfy)
    run = graphs.sample(
        comfy, loader, graphs.empty(comfy, loader), graphs.prompts(comfy, loader, "Äpfel 苹果"), seed=12
    )
    comfy.finish(comfy.node("SaveImage", images=decoded(comfy, run, loader), filename_prefix=prefix))
    return max((comfy.models / "output").glob(f"{prefix}*.png"))


def test_a_saved_picture_runs_again(comfy):
    """The prompt in the PNG draws the same picture in a ComfyUI that knows nothing of the first run."""
    first = saved_picture(comfy)
    picture = Image.open(first)
    prompt = json.loads(picture.text["prompt"])
    assert {"AmusedLoader", "AmusedSampler", "SaveImage"} <= {node["class_type"] for node in prompt.values()}
    comfy.fresh()
    comfy.prompt(prompt)
    second = max((comfy.models / "output").glob("run*.png"))
    assert second != first
    assert np.array_equal(np.array(picture), np.array(Image.open(second)))


def test_no_metadata_when_told_so(comfy, monkeypatch):
    """--disable-metadata leaves nothing of the graph in a picture."""
    from comfy.cli_args import args

    monkeypatch.setattr(args, "disable_metadata", True)
    file = saved_picture(comfy, "bare")
    assert Image.open(file).info == {}
    assert b"amused" not in file.read_bytes().lower()
