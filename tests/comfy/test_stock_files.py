"""Models that ComfyUI's own nodes save, and 'Load aMUSEd' loads."""

from __future__ import annotations

import shutil

import pytest
import torch

from amused_core import CheckpointError, load_model
from tests import loras
from tests.comfy import graphs
from tests.comfy.graphs import refused, same

KINDS = ("checkpoints", "diffusion_models", "clip", "vae")


@pytest.fixture
def output(comfy):
    """ComfyUI's output folder, with empty folders in it that ComfyUI looks for models in."""
    import folder_paths

    comfy.fresh()
    folder = comfy.models / "output"
    for kind in KINDS:
        folder_paths.add_model_folder_path(kind, str(folder / kind))
    yield folder
    for kind in KINDS:
        shutil.rmtree(folder / kind, ignore_errors=True)


@pytest.fixture
def changed(comfy):
    """MODEL and CLIP with a LoRA, and the VAE, of "tiny"."""
    import folder_paths

    folder, model = comfy.models / "loras", load_model(comfy.models / "amused" / "tiny", device="cpu")
    parts = loras.factors(model.transformer, loras.UVIT), loras.factors(model.text.module, loras.TEXT, seed=1)
    loras.write(folder / "changed.safetensors", "kohya", *parts)
    folder_paths.add_model_folder_path("loras", str(folder))
    loader = graphs.load(comfy)
    own = {"lora_name": "changed.safetensors", "strength_model": 0.6, "strength_clip": 0.6}
    lora = comfy.node("LoraLoader", model=loader, clip=(loader, 1), **own)
    return lora, (lora, 1), (loader, 2)


def save(comfy, name, **wires):
    """Runs a save node with its default prefix."""
    prefix = comfy.nodes.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()["required"]["filename_prefix"][1]["default"]
    comfy.finish(comfy.node(name, filename_prefix=prefix, **wires))


def listed(comfy, start):
    """The one name in the loader's list that begins so."""
    (name,) = [name for name in comfy.module("nodes.host.load.folders").model_names() if name.startswith(start)]
    return name


def draw(comfy, model, clip, vae):
    """LATENT and IMAGE of a run."""
    text = comfy.node("CLIPTextEncode", clip=clip, text="a red apple")
    wires = {"model": model, "latent": comfy.node("EmptyLatentImage", width=64, height=64, batch_size=1)}
    run = graphs.sample(comfy, wires["model"], wires["latent"], positive=text, negative=text, text=text)
    return comfy.run(run, comfy.node("VAEDecode", samples=run, vae=vae))


def parts(loader):
    return loader, (loader, 1), (loader, 2)


def test_a_whole_checkpoint(comfy, output, changed):
    """Save Checkpoint: the LoRA is in the weights, and the graph draws the same; headless, too."""
    model, clip, vae = changed
    save(comfy, "CheckpointSave", model=model, clip=clip, vae=vae)
    name = listed(comfy, "checkpoints/")
    latent, image = draw(comfy, *changed)
    got, picture = draw(comfy, *parts(graphs.load(comfy, name)))
    assert same(got, latent) and torch.equal(picture, image)
    headless = load_model(output / name, device="cpu")
    settings = {"steps": 6, "cfg": 1.0, "temperature": (2.0, 0.0), "seed": 3, "width": 32, "height": 32}
    text = graphs.prompts(comfy, graphs.load(comfy, name))
    loader = graphs.load(comfy, name)
    run = comfy.run(graphs.sample(comfy, loader, graphs.empty(comfy, loader), text, cfg=1.0))
    assert torch.equal(graphs.tokens(run), headless.generate("a red apple", **settings).tokens)


@pytest.mark.parametrize(
    ("node", "part", "folder"),
    [("ModelSave", 0, "diffusion_models/"), ("CLIPSave", 1, "text_encoders/"), ("VAESave", 2, "vae/")],
)
def test_a_part_alone(comfy, output, changed, node, part, folder):
    """The other parts are those of the checkpoint that it came from; in the graph any may be exchanged."""
    save(comfy, node, **{("model", "clip", "vae")[part]: changed[part]})
    want = list(parts(graphs.load(comfy)))
    want[part] = changed[part]
    latent, image = draw(comfy, *want)
    got, picture = draw(comfy, *parts(graphs.load(comfy, listed(comfy, folder))))
    assert same(got, latent) and torch.equal(picture, image)


def test_a_part_of_a_part(comfy, output, changed):
    """A saved MODEL that is loaded and saved again: its other parts are still found."""
    save(comfy, "ModelSave", model=changed[0])
    first = graphs.load(comfy, listed(comfy, "diffusion_models/"))
    save(comfy, "CheckpointSave", model=first, clip=(first, 1), vae=(first, 2))
    save(comfy, "VAESave", vae=(first, 2))
    for start in ("checkpoints/", "vae/"):
        latent, image = draw(comfy, *parts(graphs.load(comfy, listed(comfy, start))))
        want, picture = draw(comfy, *parts(first))
        assert same(latent, want) and torch.equal(image, picture)


def test_what_the_other_parts_come_from_is_missing(comfy, output, changed):
    save(comfy, "ModelSave", model=changed[0])
    name = listed(comfy, "diffusion_models/")
    with pytest.raises(CheckpointError, match="holds the transformer only.*'tiny'"):
        load_model(output / name)
    folder = comfy.models / "amused" / "tiny"
    folder.rename(comfy.models / "away")
    try:
        refused(comfy, graphs.load(comfy, name), "'tiny' is not there")
    finally:
        (comfy.models / "away").rename(folder)


def test_a_part_that_needs_itself(comfy, output, changed):
    save(comfy, "ModelSave", model=changed[0])
    name = listed(comfy, "diffusion_models/")
    save(comfy, "VAESave", vae=(graphs.load(comfy, name), 2))
    (output / listed(comfy, "vae/")).replace(output / name)
    refused(comfy, graphs.load(comfy, name), "refers to itself")


def test_a_damaged_description(comfy, output, changed):
    from safetensors.torch import load_file, save_file

    save(comfy, "VAESave", vae=changed[2])
    name = listed(comfy, "vae/")
    save_file(load_file(output / name) | {"amused": torch.tensor([123, 125], dtype=torch.uint8)}, output / name)
    refused(comfy, graphs.load(comfy, name), "cannot be read")


def test_stock_loaders_refuse_it(comfy, output, changed):
    """They know their own kinds of model only, and say so."""
    from tests.comfy.harness import GraphError

    save(comfy, "CheckpointSave", model=changed[0], clip=changed[1], vae=changed[2])
    file = listed(comfy, "checkpoints/").removeprefix("checkpoints/")
    with pytest.raises(GraphError, match="Could not detect model type"):
        comfy.run(comfy.node("CheckpointLoaderSimple", ckpt_name=file))


def test_a_new_version_of_what_the_other_parts_come_from(comfy, output, changed):
    """The loader runs again, for the part alone as for the whole."""
    folders = comfy.module("nodes.host.load.folders")
    save(comfy, "VAESave", vae=changed[2])
    name = listed(comfy, "vae/")
    before = folders.fingerprint(name)
    file = comfy.models / "amused" / "tiny" / "transformer" / "config.json"
    file.touch()
    assert folders.fingerprint(name) != before and len(before) > 1


def test_other_models_are_neither_listed_nor_told(comfy, output, caplog):
    """In those folders most files are of other models, and some are just being downloaded."""
    from safetensors.torch import save_file

    (output / "checkpoints").mkdir()
    save_file({"model.diffusion_model.x": torch.ones(1)}, output / "checkpoints" / "other.safetensors")
    (output / "checkpoints" / "half.safetensors").write_bytes(b"half")
    names = comfy.module("nodes.host.load.folders").model_names()
    assert not [name for name in names if name.startswith("checkpoints/")] and "left out" not in caplog.text
