"""Every example workflow: complete, the same in both formats, and it runs in a real ComfyUI on the embedded model."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
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
    "batch_of_variations": [(128, 128)] * 6,
    "image_to_image": [(128, 128)] * 2,
    "inpaint": [(128, 128)] * 2,
    "outpaint": [(64, 128), (128, 128)],
    "regional_prompts": [(128, 128)],
    "seeing_inside": [(128, 128)] * 2 + [(512, 548)] * 3 + [(640, 640)],
    "text_to_image": [(128, 128)],
}
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


@pytest.mark.parametrize("name", NAMES)
def test_has_a_note_and_no_overlapping_nodes(name: str) -> None:
    ui = load(FOLDER / f"{name}.json")
    assert any(node["type"].endswith("Note") and len(node["widgets_values"][0]) > 100 for node in ui["nodes"])
    boxes = [(*node["pos"], *node["size"]) for node in ui["nodes"]]
    for i, (x, y, w, h) in enumerate(boxes):
        for a, b, c, d in boxes[:i]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y, "nodes overlap"


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


@pytest.fixture(scope="session")
def page(server: ComfyServer) -> Iterator[Any]:
    """ComfyUI's own frontend in a headless browser."""
    pytest.importorskip("playwright", reason="pip install playwright")
    from frontend import chromium, frontend

    if chromium() is None:
        pytest.skip("no Chromium on this machine")
    with frontend(server) as loaded:
        yield loaded


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_opens_in_the_frontend(page: Any, name: str) -> None:
    from frontend import open_workflow

    open_workflow(page, name, load(FOLDER / f"{name}.json"), load(FOLDER / "api" / f"{name}.json"))
