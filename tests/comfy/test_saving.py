"""Models and tokens out of a graph to disk, and back."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from amused_core import load_model
from tests.comfy import graphs
from tests.comfy.graphs import same
from tests.comfy.harness import GraphError
from tests.comfy.runs import lora_file

LAYOUTS = ["one file", "diffusers folder"]


@pytest.fixture
def output(comfy):
    """ComfyUI's output folder for this pack, emptied; and so is its cache, or an equal graph would save nothing."""
    comfy.fresh()
    folder = comfy.models / "output" / "amused"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def newest(output):
    """The last thing that was saved."""
    return max(output.iterdir())


def styled(comfy, loader):
    """MODEL and CLIP, each with a merge and a LoRA on top."""
    other = graphs.load(comfy, "tiny8")
    lora_file(comfy, comfy.run(loader))
    model = comfy.node("ModelMergeSimple", model1=loader, model2=other, ratio=0.3)
    model = comfy.node("LoraLoaderModelOnly", model=model, lora_name="style.safetensors", strength_model=0.4)
    return model, comfy.node("CLIPMergeSimple", clip1=(loader, 1), clip2=(other, 1), ratio=0.4)


def draw(comfy, model, clip, vae, latent, **more):
    """LATENT of a run, and its IMAGE; the size is told, because merged models may differ in it."""
    own = {"width": 32, "height": 32, "crop_top": 0, "crop_left": 0, "aesthetic_score": 6.0}
    text = comfy.node("AmusedTextEncode", clip=clip, positive="a red apple", negative="blue", **own)
    run = graphs.sample(comfy, model, latent, text, **more)
    return run, comfy.node("AmusedVQDecode", samples=run, vae=vae, tile_size=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_merges_and_loras_are_saved(comfy, output, layout, dtype):
    """What the graph draws, the saved model draws without merge and LoRA: in ComfyUI, and headless."""
    loader = graphs.load(comfy, dtype=dtype)
    model, clip = styled(comfy, loader)
    latent = graphs.empty(comfy, loader, batch=2)
    plain = comfy.run(graphs.sample(comfy, loader, latent))
    want, picture = comfy.run(*draw(comfy, model, clip, (loader, 2), latent))
    assert not same(plain, want)
    own = {"model": model, "clip": clip, "vae": (loader, 2), "filename_prefix": "amused/model", "dtype": "auto"}
    comfy.finish(comfy.node("AmusedSaveModel", layout=layout, **own))
    saved = newest(output)
    assert saved.name == ("model_00001_.safetensors" if layout == "one file" else "model_00001_")
    assert saved.is_dir() == (layout != "one file") and [path.name for path in output.iterdir()] == [saved.name]
    target = comfy.models / "amused" / saved.name
    saved.rename(target)
    try:
        again = graphs.load(comfy, saved.name, dtype=dtype)
        got, shown = comfy.run(*draw(comfy, again, (again, 1), (again, 2), graphs.empty(comfy, again, 32, 32, 2)))
        assert same(want, got) and torch.equal(picture, shown)
        headless = load_model(target)
        assert headless.checkpoint.name == "model_00001"
        stored = {value.dtype for value in headless.checkpoint.state("transformer").values()}
        assert stored == {torch.float32 if dtype == "fp32" else torch.float16}
        drawn = headless.generate("a red apple", "blue", seed=3, steps=6, cfg=3.0, temperature=(2.0, 0.0), batch_size=2)
        if dtype == "fp32":
            assert torch.equal(drawn.tokens, graphs.tokens(want))
        assert asdict(comfy.run(loader).model.info.recommended) == asdict(headless.checkpoint.recommended)
    finally:
        shutil.rmtree(target) if target.is_dir() else target.unlink()


def test_saving_leaves_the_graph_as_it_was(comfy, output):
    """Patches stay patches: the plain model still draws what it drew, and so does the styled one."""
    loader = graphs.load(comfy)
    model, clip = styled(comfy, loader)
    latent = graphs.empty(comfy, loader)
    before = comfy.run(graphs.sample(comfy, loader, latent), draw(comfy, model, clip, (loader, 2), latent)[0])
    own = {"model": model, "clip": clip, "vae": (loader, 2), "layout": "one file", "dtype": "auto"}
    comfy.finish(comfy.node("AmusedSaveModel", filename_prefix="amused/model", **own))
    # A new place in the graph, so that nothing is taken from the cache.
    after = comfy.run(
        graphs.sample(comfy, loader, latent, text=graphs.prompts(comfy, loader, aesthetic_score=6.0)),
        draw(comfy, model, clip, (loader, 2), latent)[0],
    )
    assert all(same(a, b) for a, b in zip(before, after, strict=True))


def test_diffusers_draws_a_saved_folder(comfy, output):
    """With the weights of a merge; tokens as of the graph, with diffusers' seeding."""
    import diffusers

    loader = graphs.load(comfy, dtype="fp32")
    model, clip = styled(comfy, loader)
    latent = graphs.empty(comfy, loader, batch=2)
    want = comfy.run(draw(comfy, model, clip, (loader, 2), latent, seeding="diffusers")[0])
    own = {"model": model, "clip": clip, "vae": (loader, 2), "layout": "diffusers folder", "dtype": "auto"}
    comfy.finish(comfy.node("AmusedSaveModel", filename_prefix="amused/model", **own))
    pipe = diffusers.AmusedPipeline.from_pretrained(newest(output))
    pipe.set_progress_bar_config(disable=True)
    got = pipe(
        "a red apple", num_inference_steps=6, guidance_scale=3.0, output_type="latent", num_images_per_prompt=2,
        generator=torch.Generator().manual_seed(3), height=32, width=32, negative_prompt="blue",
    ).images  # fmt: skip
    assert torch.equal(got, graphs.tokens(want))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_partly_loaded_models_are_saved_whole(comfy, output, layout, monkeypatch):
    """Patches that a small card applies on the fly are in the file too."""
    from comfy import model_management

    loader = graphs.load(comfy, dtype="fp32")
    model, clip = styled(comfy, loader)
    parts = {"model": model, "clip": clip, "vae": (loader, 2), "layout": layout, "dtype": "auto"}
    nodes = [comfy.node("AmusedSaveModel", filename_prefix=f"amused/{name}", **parts) for name in ("whole", "part")]
    comfy.finish(nodes[0])
    model_management.unload_all_models()
    patched = comfy.run(model)
    patched.patch_model(device_to=torch.device("cpu"), lowvram_model_memory=patched.model_size() // 3)
    assert patched.model.model_lowvram
    with monkeypatch.context() as patch:
        patch.setattr(model_management, "is_device_cpu", lambda device: False)
        patch.setattr(model_management, "vram_state", model_management.VRAMState.NO_VRAM)
        comfy.finish(nodes[1])
        assert patched.model.model_lowvram, "the model was to be loaded in part only"
    model_management.unload_all_models()
    one, two = (weights(path) for path in sorted(output.iterdir()))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def weights(path):
    """All tensors of a file or folder."""
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    found = {}
    for file in files:
        found |= {f"{file.parent.name if path.is_dir() else ''}/{key}": value for key, value in load_file(file).items()}
    return found


@pytest.mark.parametrize(
    ("dtype", "want"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_dtypes(comfy, output, dtype, want):
    loader = graphs.load(comfy)
    own = {"model": loader, "clip": (loader, 1), "vae": (loader, 2), "layout": "one file"}
    comfy.finish(comfy.node("AmusedSaveModel", filename_prefix="amused/model", dtype=dtype, **own))
    assert {value.dtype for value in weights(newest(output)).values()} == {want}


def test_numbers_go_on_and_nothing_is_overwritten(comfy, output):
    loader = graphs.load(comfy)
    names = ["a/b_00001_.safetensors", "a/b_00002_", "a/b_00003_.safetensors", "c_00001_.safetensors"]
    for seed, (layout, prefix) in enumerate(
        [
            ("one file", "amused/a/b"),
            ("diffusers folder", "amused/a/b"),
            ("one file", "amused/a/b"),
            ("one file", "amused/c"),
        ]
    ):
        comfy.fresh()
        own = {"model": loader, "clip": (loader, 1), "vae": (loader, 2), "layout": layout, "dtype": "auto"}
        comfy.finish(comfy.node("AmusedSaveModel", filename_prefix=prefix, **own))
        files = [path for path in (*output.glob("*"), *output.glob("a/*")) if path.name != "a"]
        assert sorted(path.relative_to(output).as_posix() for path in files) == sorted(names[: seed + 1])


@pytest.mark.parametrize("node", ["AmusedSaveTokens", "one file", "diffusers folder"])
def test_two_servers_under_one_prefix(comfy, output, node, monkeypatch):
    """Another server takes the number while this one writes: its file stays, and this one takes the next."""
    loader, module = graphs.load(comfy), comfy.module("nodes.host.save.output")
    writing = comfy.module("amused_core.files.writing")
    numbered, own, taken = module.numbered, writing._put, []

    def slow(prefix, ending=""):
        path = numbered(prefix, ending)
        if not taken:
            taken.append(path)
        return path

    def put(source, target, overwrite):
        if target == taken[0] and not target.exists():
            if node == "diffusers folder":
                target.mkdir()
                (target / "another").write_text("another's")
            else:
                target.write_text("another's")
        own(source, target, overwrite)

    monkeypatch.setattr(module, "numbered", slow)
    monkeypatch.setattr(writing, "_put", put)
    if node == "AmusedSaveTokens":
        saved = comfy.node(node, samples=comfy.give(graphs.latent()), filename_prefix="amused/t")
    else:
        parts = {"model": loader, "clip": (loader, 1), "vae": (loader, 2)}
        saved = comfy.node("AmusedSaveModel", **parts, filename_prefix="amused/t", layout=node, dtype="auto")
    comfy.finish(saved)
    first, second = sorted(output.iterdir())
    assert first == taken[0] and "00001" in first.name and "00002" in second.name
    assert (first / "another" if first.is_dir() else first).read_text() == "another's"


def test_a_folder_taken_before_the_writing_begins(comfy, output, monkeypatch):
    """Another server takes the number between its choice and the first byte."""
    loader, module = graphs.load(comfy), comfy.module("nodes.host.save.output")
    numbered, taken = module.numbered, []

    def slow(prefix, ending=""):
        path = numbered(prefix, ending)
        if not taken:
            taken.append(path)
            path.mkdir(parents=True)
        return path

    monkeypatch.setattr(module, "numbered", slow)
    parts = {"model": loader, "clip": (loader, 1), "vae": (loader, 2), "layout": "diffusers folder", "dtype": "auto"}
    comfy.finish(comfy.node("AmusedSaveModel", **parts, filename_prefix="amused/early"))
    first, second = sorted(output.iterdir())
    assert first == taken[0] and not list(first.iterdir()) and (second / "model_index.json").is_file()


def test_the_history_names_the_file(comfy, output):
    loader = graphs.load(comfy)
    own = {"model": loader, "clip": (loader, 1), "vae": (loader, 2), "layout": "one file", "dtype": "auto"}
    comfy.server.events.clear()
    comfy.finish(comfy.node("AmusedSaveModel", filename_prefix="amused/x/m", **own))
    shown = [data["output"] for event, data in comfy.server.events if event == "executed"]
    assert {"models": [{"filename": "m_00001_.safetensors", "subfolder": "amused/x", "type": "output"}]} in shown


@pytest.mark.parametrize("disabled", [False, True])
def test_a_file_knows_its_graph(comfy, output, disabled, monkeypatch):
    """As ComfyUI's own files do, so that it can be dropped on the canvas; not with --disable-metadata."""
    from comfy.cli_args import args

    monkeypatch.setattr(args, "disable_metadata", disabled)
    loader = graphs.load(comfy)
    own = {"model": loader, "clip": (loader, 1), "vae": (loader, 2), "layout": "one file", "dtype": "auto"}
    comfy.finish(comfy.node("AmusedSaveModel", filename_prefix="amused/model", **own))
    with safe_open(newest(output), "pt") as file:
        metadata = file.metadata()
    assert set(metadata) == {"format", "amused"} | (set() if disabled else {"prompt"})
    if not disabled:
        assert "AmusedSaveModel" in {node["class_type"] for node in json.loads(metadata["prompt"]).values()}


@pytest.mark.parametrize("prefix", ["", "  ", "../x", "amused/../../x", "amused/", "/etc/x"])
@pytest.mark.parametrize("node", ["AmusedSaveModel", "AmusedSaveTokens"])
def test_prefixes_that_lead_out(comfy, output, node, prefix):
    loader = graphs.load(comfy)
    own = {"samples": comfy.give(graphs.latent())}
    if node == "AmusedSaveModel":
        own = {"model": loader, "clip": (loader, 1), "vae": (loader, 2), "layout": "one file", "dtype": "auto"}
    with pytest.raises(GraphError, match=r"filename_prefix is .*allowed are names below the output folder"):
        comfy.finish(comfy.node(node, filename_prefix=prefix, **own))
    assert not output.exists()


def test_parts_that_do_not_belong_together(comfy, output):
    """Parts of other kinds of models, and of aMUSEd models with other sizes."""
    loader = graphs.load(comfy)
    parts = {"model": loader, "clip": (loader, 1), "vae": (loader, 2)}
    own = {"filename_prefix": "amused/model", "layout": "one file", "dtype": "auto"}

    class Other:
        model = cond_stage_model = None

    for name in parts:
        with pytest.raises(GraphError, match=rf"(?i)this {name} is .*connect the {name} of 'Load aMUSEd'"):
            comfy.finish(comfy.node("AmusedSaveModel", **own, **(parts | {name: comfy.give(Other())})))
    # Newer versions refuse a choice that is not offered before the node runs.
    with pytest.raises(GraphError, match=r"layout.*'zip'.*one file.*diffusers folder"):
        comfy.finish(comfy.node("AmusedSaveModel", **(own | {"layout": "zip"}), **parts))
    with pytest.raises(GraphError, match=r"dtype.*'int8'.*auto"):
        comfy.finish(comfy.node("AmusedSaveModel", **(own | {"dtype": "int8"}), **parts))
    embedded = graphs.load(comfy, "embedded")
    with pytest.raises(GraphError, match=r"num_vq_embeddings is \d+, but the transformer's codebook_size is 64"):
        comfy.finish(comfy.node("AmusedSaveModel", **own, **(parts | {"vae": (embedded, 2)})))
    assert not output.exists() or not list(output.iterdir())


def save_tokens(comfy, latent, prefix="amused/tokens"):
    comfy.finish(comfy.node("AmusedSaveTokens", samples=latent, filename_prefix=prefix))


def test_tokens_go_out_and_come_back(comfy, output):
    """The same file as `amused generate --save-tokens`; masked cells are kept as such."""
    loader = graphs.load(comfy)
    run = graphs.sample(comfy, loader, graphs.empty(comfy, loader, batch=3))
    partly = graphs.latent(2, 5, 7)
    partly["samples"][:, :, 1:3] = 0
    save_tokens(comfy, run)
    save_tokens(comfy, comfy.give(partly))
    assert [path.name for path in sorted(output.iterdir())] == ["tokens_00001_.npy", "tokens_00002_.npy"]
    drawn = comfy.run(run)
    for name, want in (("tokens_00001_.npy", drawn), ("tokens_00002_.npy", partly)):
        array = np.load(output / name)
        assert array.dtype == np.int64 and np.array_equal(array, graphs.tokens(want).numpy())
        shutil.copy(output / name, comfy.models / "input" / name)
        assert (
            name in comfy.nodes.NODE_CLASS_MAPPINGS["AmusedLoadTokens"].INPUT_TYPES()["required"]["file"][1]["options"]
        )
        got, image = comfy.run(
            latent := comfy.node("AmusedLoadTokens", file=name, model=loader),
            comfy.node("AmusedVQDecode", samples=latent, vae=(loader, 2), tile_size=0),
        )
        assert same(got, want) and got["samples"].dtype == torch.float32
        assert image.shape == (len(array), array.shape[1] * 4, array.shape[2] * 4, 3)
        output_file = comfy.node("AmusedLoadTokens", file=f"amused/{name} [output]", model=loader)
        assert same(comfy.run(output_file), want), "ComfyUI's way to name a file of the output folder"
        (comfy.models / "input" / name).unlink()


def test_a_replaced_token_file_is_read_again(comfy):
    loader, file = graphs.load(comfy), comfy.models / "input" / "t.npy"
    node = comfy.node("AmusedLoadTokens", file="t.npy", model=loader)
    for seed in (1, 2):
        want = graphs.latent(1, 4, 4, seed)
        np.save(file, graphs.tokens(want).numpy())
        assert same(comfy.run(node), want)
    file.unlink()


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((4, 4), "int64"), r"int64 in the shape \[4, 4\].*\[batch, height, width\]"),
        (np.zeros((1, 4, 4), "float32"), r"float32 in the shape \[1, 4, 4\].*whole numbers"),
        (np.full((1, 4, 4), 64), r"ids from 64 to 64; allowed are 0 to 63, and -1"),
        (np.full((1, 4, 4), -2), r"ids from -2 to -2; allowed are 0 to 63"),
    ],
)
def test_wrong_token_files(comfy, array, sentence):
    file = comfy.models / "input" / "wrong.npy"
    np.save(file, array)
    with pytest.raises(GraphError, match=rf"wrong\.npy.*{sentence}"):
        comfy.run(comfy.node("AmusedLoadTokens", file="wrong.npy", model=graphs.load(comfy)))
    file.unlink()


@pytest.mark.parametrize("name", ["none", "gone.npy", "../amused/tiny/model_index.json", "sub\\gone.npy"])
def test_missing_token_files(comfy, name):
    """Refused before anything runs."""
    with pytest.raises(GraphError, match=r"allowed are files in .*input") as caught:
        comfy.run(comfy.node("AmusedLoadTokens", file=name, model=graphs.load(comfy)))
    assert caught.value.kind == "invalid"


def test_latents_of_others_are_not_saved(comfy, output):
    with pytest.raises(GraphError, match="4 channels and belongs to another model"):
        save_tokens(comfy, comfy.node("EmptyLatentImage", width=64, height=64, batch_size=1))
    assert not output.exists() or not list(Path(output).iterdir())
