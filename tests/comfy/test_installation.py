"""A real ComfyUI in which much is unusual: folders, neighbours, places and names of models, no metadata."""

from __future__ import annotations

import io
import os
import time
import urllib.request
from pathlib import Path

import pytest
from comfy_server import ComfyServer, ServerError
from PIL import Image

from amused_core.checkpoint import open_checkpoint, save_checkpoint
from tests.tiny import write_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.server
# The pack under two names that are hard on paths, module names and addresses.
COPIES = ["aMUSEd pack \u2013 \u82f9\u679c (v1.0)", "zz-second-copy.2"]
# A pack that has what this one has under the same names, and pushes its folder to the front of the import path.
NEIGHBOUR = {
    "__init__.py": """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
import amused_core
from .nodes.host import answer

class Neighbour:
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES, OUTPUT_NODE, FUNCTION, CATEGORY = (), True, "run", "test"
    def run(self):
        return {"ui": {"text": [amused_core.ANSWER + answer()]}}

NODE_CLASS_MAPPINGS = {"Neighbour": Neighbour}
""",
    "amused_core/__init__.py": "ANSWER = 'its own core, '\n",
    "nodes/__init__.py": "",
    "nodes/host/__init__.py": "def answer():\n    return 'its own nodes'\n",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """ComfyUI's base folder: three packs, and models where a YAML file says."""
    home = tmp_path_factory.mktemp("home of comfy")
    packs = home / "custom_nodes"
    packs.mkdir()
    for name in COPIES:
        (packs / name).symlink_to(ROOT, target_is_directory=True)
    for name, text in NEIGHBOUR.items():
        file = packs / "neighbour" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    write_tiny_checkpoint(home / "shelf" / "my models" / "sub" / "tiny")
    write_tiny_checkpoint(home / "shelf" / "hub" / "tiny512", downsample=True)
    (home / "paths.yaml").write_text(
        f"shelf:\n  base_path: {home}/shelf\n  amused: my models\n  diffusers: |\n    empty\n    hub\n"
    )
    return home


@pytest.fixture(scope="module")
def odd(home):
    """The running server."""
    options = ["--cpu", "--base-directory", str(home), "--extra-model-paths-config", str(home / "paths.yaml")]
    with ComfyServer(Path(os.environ["COMFYUI_DIR"]), arguments=[*options, "--disable-metadata"]) as running:
        yield running


def graph(model, seed=3):
    """Text to picture in API format."""
    text = {"width": 0, "height": 0, "crop_top": 0, "crop_left": 0, "aesthetic_score": 6.0}
    sampling = {"steps": 3, "cfg": 3.0, "schedule": "auto", "denoise": 1.0, "temperature_start": 2.0}
    wires = {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 1], "latent_image": ["3", 0]}
    nodes = {
        "1": ("AmusedLoader", {"model": model, "dtype": "auto", "text_encoder_dtype": "auto"}),
        "2": ("AmusedTextEncode", {"clip": ["1", 1], "positive": "a red apple", "negative": "", **text}),
        "3": ("AmusedEmptyLatent", {"model": ["1", 0], "width": 0, "height": 0, "batch_size": 1}),
        "4": ("AmusedSampler", {**wires, **sampling, "seed": seed, "temperature_end": 0.0, "seeding": "per_image"}),
        "5": ("AmusedVQDecode", {"samples": ["4", 0], "vae": ["1", 2], "tile_size": 0}),
        "6": ("SaveImage", {"images": ["5", 0], "filename_prefix": "odd"}),
    }
    return {number: {"class_type": kind, "inputs": inputs} for number, (kind, inputs) in nodes.items()}


def draw(server, model, seed=3):
    """The PNG of a run."""
    (picture,) = server.pictures(server.run(graph(model, seed)))
    return picture


def models(server):
    """What the loader offers."""
    return server.get("/object_info/AmusedLoader")["AmusedLoader"]["input"]["required"]["model"][1]["options"]


def folder(server):
    """The copy of the pack whose nodes are used."""
    nodes = {name: node for name, node in server.get("/object_info").items() if name.startswith("Amused")}
    (module,) = {node["python_module"] for node in nodes.values()}
    return module.removeprefix("custom_nodes.")


def test_all_packs_load(odd, home):
    failed = [line for line in odd.log(400).splitlines() if "FAILED" in line or "Cannot import" in line]
    assert not [line for line in failed if str(home) in line]
    assert odd.run({"1": {"class_type": "Neighbour", "inputs": {}}})["1"]["text"] == ["its own core, its own nodes"]


def test_of_two_copies_one_is_used_and_the_log_says_so(odd):
    """Nodes, sampler and loader are those of one copy, so a graph runs; also with the stock KSampler."""
    used = folder(odd)
    other = next(name for name in COPIES if name != used)
    warnings = [line for line in odd.log(400).splitlines() if "the pack is installed twice" in line]
    assert len(warnings) == 1
    assert warnings[0].index(used) < warnings[0].index(other), "the one that takes the place is named first"
    own = graph("tiny512")
    stock = {"seed": 3, "steps": 3, "cfg": 3.0, "sampler_name": "amused", "scheduler": "amused", "denoise": 1.0}
    wires = {name: own["4"]["inputs"][name] for name in ("model", "positive", "negative", "latent_image")}
    own["4"] = {"class_type": "KSampler", "inputs": {**wires, **stock}}
    assert len(odd.pictures(odd.run(own))) == 1


def test_help_of_a_renamed_folder(odd):
    """As the frontend asks for it. ComfyUI's server gives out no files of folders whose names need quoting, such as
    those with a space: there the nodes work, but without help pages, as those of any pack."""
    with urllib.request.urlopen(f"{odd.address}/extensions/{COPIES[1]}/docs/AmusedLoader/en.md", timeout=60) as answer:
        assert answer.read() == (ROOT / "web" / "docs" / "AmusedLoader" / "en.md").read_bytes()


def test_paths_of_the_yaml_file(odd):
    assert models(odd) == ["embedded", "sub/tiny", "tiny512"]
    assert Image.open(io.BytesIO(draw(odd, "sub/tiny"))).size == (32, 32)


def test_names_from_windows(odd):
    """`sub\\tiny` of a workflow that was made on Windows is `sub/tiny` here."""
    assert draw(odd, "sub\\tiny", seed=5) == draw(odd, "sub/tiny", seed=5)


def test_a_missing_model_says_where_to_put_it(odd, home):
    """Refused at once, at its node, before anything runs."""
    for name in ("sub\\gone", "gone/model.safetensors"):
        with pytest.raises(ServerError) as caught:
            odd.submit(graph(name))
        message = str(caught.value)
        assert "node 1 (AmusedLoader)" in message and repr(name) in message
        assert f"put it into '{home / 'shelf' / 'my models'}'" in message and "embedded, sub/tiny" in message


def test_weights_that_are_overwritten_during_a_run(odd, home, tmp_path):
    """As `cp other.safetensors model.safetensors` does: the server lives, and draws with the new ones afterwards."""
    file = home / "shelf" / "my models" / "mine.safetensors"
    save_checkpoint(file, open_checkpoint(write_tiny_checkpoint(tmp_path / "one", seed=3)))
    save_checkpoint(
        other := tmp_path / "other.safetensors", open_checkpoint(write_tiny_checkpoint(tmp_path / "two", seed=4))
    )
    long = graph(file.name)
    long["4"]["inputs"]["steps"] = 1000
    whole = odd.pictures(odd.run(long))
    long["4"]["inputs"]["cfg"] = 3.0001  # Another run, with the same weights in memory.
    prompt = odd.submit(long)
    while not odd.get("/queue")["queue_running"]:
        assert prompt not in odd.get("/history"), "the run was too short to be met"
        time.sleep(0.01)
    with file.open("rb+") as content:
        content.truncate(0)
        content.write(other.read_bytes())
    assert len(odd.pictures(odd.result(prompt)["outputs"])) == len(whole) == 1
    fresh = draw(odd, file.name)
    save_checkpoint(copy := file.with_name("fresh.safetensors"), open_checkpoint(other))
    try:
        assert fresh == draw(odd, copy.name)
    finally:
        for path in (file, copy):
            path.unlink()


def test_models_added_while_the_server_runs(odd, home):
    """The next look at the list shows them, and the next prompt loads them; one that is gone is refused again."""
    new = home / "models" / "amused" / "new one"
    with pytest.raises(ServerError, match="'new one' is not there"):
        odd.submit(graph("new one"))
    write_tiny_checkpoint(new, seed=9)
    assert models(odd) == ["embedded", "new one", "sub/tiny", "tiny512"]
    assert draw(odd, "new one") != draw(odd, "sub/tiny")
    new.rename(home / "away")
    assert "new one" not in models(odd)
    with pytest.raises(ServerError, match="'new one' is not there"):
        odd.submit(graph("new one"))


def test_no_metadata(odd):
    """--disable-metadata: the picture says nothing of graph, prompt or pack."""
    picture = draw(odd, "tiny512", seed=8)
    assert Image.open(io.BytesIO(picture)).info == {}
    assert not [word for word in (b"amused", b"apple", b"prompt") if word in picture.lower()]
