"""Every example workflow: complete, the same in both formats, and it runs in a real ComfyUI on the embedded model."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_server import ComfyServer, ServerError
from lint_workflows import lint
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
# Pixels (width, height) of the pictures that each workflow saves, in the order of its Save Image nodes.
SIZES = {
    "batch_job": [(128, 128)] * 8,
    "batch_of_variations": [(128, 128)] * 6,
    "image_to_image": [(128, 128)] * 2,
    "inpaint": [(128, 128)] * 2,
    "outpaint": [(64, 128), (128, 128)],
    "regional_prompts": [(128, 128)],
    "rows_as_lists": [(128, 128)] * 4,
    "seeing_inside": [(128, 128)] * 2 + [(512, 548)] * 3 + [(640, 640)],
    "text_to_image": [(128, 128)],
    "train_a_style": [(128, 128), (840, 520)] + [(128, 128)] * 8,
    "use_a_style": [(128, 128)],
}
# Pixels of the canvas: a node's title, and the picture that some nodes show while they run.
TITLE, PREVIEW, SAMPLERS = 30, 210, ("AmusedSampler", "AmusedTrace", "AmusedTrainLora", "AmusedBatch")
MENU_VALUES = {"fixed", "increment", "decrement", "randomize"}


def load(path: Path) -> dict[str, Any]:
    """A JSON file."""
    return json.loads(path.read_text("utf-8"))


def as_api(ui: dict[str, Any]) -> dict[str, Any]:
    """What the frontend would queue for a graph in UI format."""
    sources = {link[0]: [str(link[1]), link[2]] for link in ui["links"]}
    return {
        str(node["id"]): {"class_type": node["type"], "inputs": node_inputs(node, sources)}
        for node in ui["nodes"]
        if not node["type"].endswith("Note")
    }


def node_inputs(node: dict[str, Any], sources: dict[int, list[Any]]) -> dict[str, Any]:
    """Input values of a node in UI format; a seed's value is followed by that of its menu."""
    values = list(node.get("widgets_values") or [])
    found: dict[str, Any] = {}
    for entry in node["inputs"]:
        if "widget" in entry:
            found[entry["name"]] = values.pop(0)
            if "seed" in entry["name"] and values and values[0] in MENU_VALUES:
                values.pop(0)
        if entry.get("link") is not None:
            found[entry["name"]] = sources[entry["link"]]
    assert not values
    return found


def test_all_are_known() -> None:
    assert sorted(SIZES) == NAMES
    assert sorted(path.stem for path in (FOLDER / "api").glob("*.json")) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.jpg")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_formats_say_the_same(name: str) -> None:
    api = load(FOLDER / "api" / f"{name}.json")
    assert as_api(load(FOLDER / f"{name}.json")) == {
        node: {"class_type": entry["class_type"], "inputs": entry["inputs"]} for node, entry in api.items()
    }


def box(node: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a node with its title and, below a sampler, the preview of a run."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height + (PREVIEW if node["type"] in SAMPLERS else 0)


@pytest.mark.parametrize("name", NAMES)
def test_has_a_note_and_no_overlapping_nodes(name: str) -> None:
    ui = load(FOLDER / f"{name}.json")
    (note,) = [node["widgets_values"][0] for node in ui["nodes"] if node["type"].endswith("Note")]
    assert len(note) > 100
    boxes = [box(node) for node in ui["nodes"]]
    for i, (left, top, right, bottom) in enumerate(boxes):
        for a, b, c, d in boxes[:i]:
            assert right <= a or c <= left or bottom <= b or d <= top, "nodes overlap"
    for group in ui["groups"]:
        x, y, width, height = group["bounding"]
        for left, top, right, bottom in boxes:
            inside = x < left and right < x + width and y < top and bottom < y + height
            assert inside or right <= x or x + width <= left or bottom <= y or y + height <= top, "a frame cuts a node"


@pytest.mark.parametrize("name", NAMES)
def test_tells_where_the_real_weights_are(name: str) -> None:
    """In the note: `properties.models` would open a dialog for files that the embedded model does not need."""
    nodes = load(FOLDER / f"{name}.json")["nodes"]
    (note,) = [node["widgets_values"][0] for node in nodes if node["type"].endswith("Note")]
    assert "hf download amused/amused-512 --local-dir models/amused/amused-512" in note
    assert "https://huggingface.co/amused/amused-512" in note
    assert not [node["type"] for node in nodes if "models" in node.get("properties", {})]


@pytest.mark.parametrize("name", NAMES)
def test_needs_no_file(name: str) -> None:
    nodes = load(FOLDER / "api" / f"{name}.json").values()
    assert not [node["class_type"] for node in nodes if node["class_type"].startswith("LoadImage")]
    assert all(node["inputs"]["model"] == "embedded" for node in nodes if node["class_type"] == "AmusedLoader")


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail_is_a_picture(name: str) -> None:
    with Image.open(FOLDER / f"{name}.jpg") as picture:
        assert picture.format == "JPEG"
        assert min(picture.size) >= 128
        assert np.asarray(picture).std() > 10


@pytest.fixture(scope="session")
def object_info(server: ComfyServer) -> dict[str, Any]:
    """Every node of the running ComfyUI, stock ones too."""
    return server.get("/object_info")


@pytest.mark.server
@pytest.mark.parametrize("name", NAMES)
def test_fits_the_nodes(object_info: dict[str, Any], name: str) -> None:
    assert lint(load(FOLDER / "api" / f"{name}.json"), object_info) == []


@pytest.mark.server
@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("seeding", "per_picture", "allowed are per_image, diffusers"),
        ("steps", 1001, "allowed are 1 to 1000"),
        ("latent_image", ["1", 0], "wants LATENT, but output 0 of node 1 is MODEL"),
        ("strength", 0.5, "unknown input 'strength'"),
    ],
)
def test_linter_knows_our_nodes(object_info: dict[str, Any], name: str, value: Any, fault: str) -> None:
    graph = load(FOLDER / "api" / "text_to_image.json")
    sampler = next(node for node in graph.values() if node["class_type"] == "AmusedSampler")
    sampler["inputs"][name] = value
    (found,) = lint(graph, object_info)
    assert fault in found


@pytest.mark.server
@pytest.mark.parametrize("name", NAMES)
def test_runs_in_comfyui(server: ComfyServer, name: str) -> None:
    graph = load(FOLDER / "api" / f"{name}.json")
    pictures = [Image.open(io.BytesIO(data)) for data in server.pictures(server.run(graph))]
    assert [picture.size for picture in pictures] == SIZES[name]
    for picture in pictures:
        assert np.asarray(picture).std() > 10, "a flat picture"


@pytest.mark.server
def test_pack_is_listed(server: ComfyServer) -> None:
    templates = server.get("/workflow_templates")
    assert NAMES in [sorted(names) for names in templates.values()]
    assert "IMPORT FAILED" not in "\n".join(line for line in server.log(10_000).splitlines() if "amused" in line)


@pytest.mark.server
def test_wrong_graph_is_refused_by_node(server: ComfyServer) -> None:
    graph = load(FOLDER / "api" / "text_to_image.json")
    sampler = next(node for node in graph.values() if node["class_type"] == "AmusedSampler")
    sampler["inputs"]["steps"] = 0
    with pytest.raises(ServerError, match=r"AmusedSampler.*steps"):
        server.run(graph)
