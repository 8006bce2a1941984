"""Folders that others write to as well: links that lead nowhere, half files, thousands of files of other models."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time

import pytest
import torch
from safetensors.torch import save_file

from tests.comfy import graphs
from tests.comfy.harness import GraphError
from tests.tiny import write_tiny_checkpoint

ALWAYS = ["embedded", "tiny", "tiny512", "tiny8"]
ENDINGS = {"input": ".npy", "amused": ".safetensors", "diffusers": ".safetensors", "loras": ".safetensors"}


@pytest.fixture(params=ENDINGS)
def shared(comfy, request, tmp_path):
    """A folder that the pack lists, and the ending of files that it lists there. What a test adds is gone after it."""
    import folder_paths

    folder = comfy.models / request.param
    if request.param == "loras":
        folder.mkdir(exist_ok=True)
        folder_paths.add_model_folder_path("loras", str(folder))
    before = set(folder.iterdir())
    yield folder, ENDINGS[request.param]
    for path in set(folder.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.fixture
def folders(comfy):
    return comfy.module("nodes.host.load.folders")


def names(comfy):
    """All that the nodes offer of what lies in folders."""
    folders, tokens, lora = (
        comfy.module(f"nodes.host.{name}") for name in ("load.folders", "save.tokens", "load.lora")
    )
    return [folders.model_names(), tokens.files.names(), lora.names()]


def lost(folder, name, ending):
    """Puts something that cannot be read there."""
    path = folder / f"{name}{ending}"
    if name == "dangling":
        path.symlink_to(folder / "nowhere")
    elif name == "itself":
        path.symlink_to(path)
    elif name == "folder itself":
        (folder / "loop").symlink_to(folder, target_is_directory=True)
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    elif name == "no text":
        open(os.fsencode(folder) + b"/\xff" + ending.encode(), "wb").close()
    else:
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize("name", ["dangling", "itself", "folder itself", "pipe", "folder", "no text", "empty"])
def test_what_cannot_be_read_is_left_out(comfy, shared, name, caplog):
    folder, ending = shared
    before = names(comfy)
    lost(folder, name, ending)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            after = names(comfy)
    if name == "empty" and folder.name in ("loras", "input"):  # What is in it is seen when it is loaded.
        assert sum(map(len, after)) == sum(map(len, before)) + 1
    elif name == "folder itself" and folder.name == "loras":  # ComfyUI's own list.
        assert len(after) == len(before)
    else:
        assert after == before
    lines = [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]
    assert len(lines) == len(set(lines)) <= 1
    if name in ("dangling", "itself") and not (folder.name == "loras" and name == "itself"):
        assert lines


@pytest.mark.parametrize("folder", ["amused", "input"])
def test_a_folder_that_may_not_be_read(comfy, folder, monkeypatch, caplog):
    """As `lost+found` is for anybody but root, and as an entry is that vanishes between two looks."""
    place = comfy.models / folder / "lost+found"
    place.mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with caplog.at_level(logging.WARNING):
        assert names(comfy)[0] == ALWAYS
        assert names(comfy)[0] == ALWAYS
    place.rmdir()
    assert [r.getMessage().count("lost+found' is left out") for r in caplog.records] == [1] * (folder == "amused")


def test_the_whole_list_is_there_at_the_start(comfy, folders, monkeypatch):
    """The loader's schema is made at import; a folder that cannot be read at all takes no node away."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    folders._names._state = None
    assert comfy.nodes.NODE_CLASS_MAPPINGS["AmusedLoader"].INPUT_TYPES()["required"]["model"][1]["options"] == [
        "embedded"
    ]


def refusal(comfy, name):
    with pytest.raises(GraphError) as caught:
        comfy.run(graphs.load(comfy, name))
    return str(caught.value)


@pytest.fixture
def place(comfy):
    """A new folder for models, gone after the test."""
    folder = comfy.models / "amused" / "here"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def one(comfy, tmp_path_factory):
    """A model as one file, elsewhere."""
    from amused_core.checkpoint import open_checkpoint, save_checkpoint

    file = tmp_path_factory.mktemp("one") / "one.safetensors"
    save_checkpoint(file, open_checkpoint(comfy.models / "amused" / "tiny"))
    return file


def test_half_a_file_says_so_and_the_whole_one_works(comfy, folders, place, one):
    """As a download grows: in place, so that its folder does not change."""
    content = one.read_bytes()
    file = place / "one.safetensors"
    for size in (0, 100, len(content) // 2):
        file.write_bytes(content[:size])
        os.utime(place, ns=(0, 0))
        assert folders.model_names() == ALWAYS
        message = refusal(comfy, "here/one.safetensors")
        assert "exists but cannot be loaded" in message and "not complete" in message
    file.write_bytes(content)
    os.utime(place, ns=(0, 0))
    assert "here/one.safetensors" in folders.model_names()
    assert comfy.run(graphs.load(comfy, "here/one.safetensors"))


def test_half_a_folder_says_so(comfy, place):
    write_tiny_checkpoint(place / "half")
    (place / "half" / "model_index.json").rename(place / "half" / "index")
    assert "has no model_index.json" in refusal(comfy, "here/half")
    (place / "half" / "model_index.json").write_text('{"transformer": ["diff')
    assert "cannot be read as JSON" in refusal(comfy, "here/half")
    (place / "half" / "index").rename(place / "half" / "model_index.json")
    weights = place / "half" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.safetensors.part"))
    assert "it holds config.json, diffusion_pytorch_model.safetensors.part" in refusal(comfy, "here/half")


def test_models_of_another_kind_say_so(comfy, place):
    save_file({"x": torch.zeros(1)}, place / "other.safetensors")
    (place / "flux").mkdir()
    (place / "flux" / "model_index.json").write_text('{"transformer": ["diffusers", "FluxTransformer2DModel"]}')
    assert "no aMUSEd configuration" in refusal(comfy, "here/other.safetensors")
    assert "another kind of model" in refusal(comfy, "here/flux")
    assert "'here/gone' is not there" in refusal(comfy, "here/gone")


@pytest.mark.parametrize("name", ["", ".", "..", "../amused/tiny", "/", "\0", "a\ud800", "x" * 5000])
def test_names_that_are_no_places(comfy, folders, name):
    assert "is not there" in folders.problem(name)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_index_with_a_byte_order_mark_works(comfy, folders, place, encoding):
    """As the editor of Windows and PowerShell write it."""
    index = write_tiny_checkpoint(place / "marked") / "model_index.json"
    index.write_text(index.read_text("utf-8"), encoding=encoding)
    assert "here/marked" in folders.model_names()
    assert comfy.run(graphs.load(comfy, "here/marked"))


def test_an_ending_in_capitals_works(comfy, folders, place, one):
    shutil.copy(one, place / "X.SAFETENSORS")
    assert "here/X.SAFETENSORS" in folders.model_names()
    assert comfy.run(graphs.load(comfy, "here/X.SAFETENSORS"))


def test_thousands_of_other_files_cost_nothing(comfy, folders, place, monkeypatch):
    """A prompt asks for the list several times, and for its own model: neither looks at the other files again."""
    save_file({"x": torch.zeros(1)}, place / "0.safetensors")
    for number in range(1, 10_000):
        (place / f"{number}.safetensors").hardlink_to(place / "0.safetensors")
    (place / "half.safetensors").write_bytes(b"half")
    long_ago = time.time_ns() - 10 * 10**9
    for path in (place, place.parent, comfy.models / "diffusers"):
        os.utime(path, ns=(long_ago, long_ago))
    assert folders.model_names() == ALWAYS
    looks = []

    def watch(owner, name):
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda path: looks.append(path) or function(path))

    watch(os, "scandir")
    watch(comfy.module("nodes.host.load.listing"), "stamp")
    watch(folders, "is_checkpoint")
    assert folders.model_names() == ALWAYS and folders.problem("tiny") is None and folders.fingerprint("tiny")
    assert len(looks) < 100


def test_weights_are_read_with_and_without_mmap(comfy, one, place):
    """ComfyUI's `--disable-mmap` has nothing left to switch off: no weight of a model is a map of its file."""
    shutil.copy(one, place / "mine.safetensors")
    loader = graphs.load(comfy, "here/mine.safetensors")
    parts = comfy.run(loader, (loader, 1), (loader, 2))
    assert parts
    assert str(place) not in open("/proc/self/maps").read()


def test_an_index_of_anything_is_another_model(comfy, folders, place):
    (place / "odd").mkdir()
    for content in ({"transformer": 5}, {"transformer": "UVit2DModel"}, {"transformer": None}, {}):
        (place / "odd" / "model_index.json").write_text(json.dumps(content))
        assert "another kind of model" in folders.problem("here/odd")
