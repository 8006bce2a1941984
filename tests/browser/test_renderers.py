"""What a user does with a workflow, in both renderers of nodes: the canvas, and the page's elements of "Nodes 2.0"."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amused_core import load_model
from tests.browser.visit import Visit

TEMPLATES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))
# A run of so many steps does not end before a slow browser has shown half of them.
MANY = 160
SAVE = "async () => app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize())), true, true, 'saved')"


@pytest.fixture(scope="module", params=["canvas", "nodes_2"])
def renderer(whole_visit: Visit, request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of the renderer in use; the canvas again afterwards."""
    whole_visit.use_nodes_2(request.param == "nodes_2")
    yield request.param
    whole_visit.use_nodes_2(False)


def saved(visit: Visit) -> Path:
    """The file that Save Image wrote last."""
    files = (visit.server.files / "output" / "amused").glob("text_to_image*.png")
    return max(files, key=lambda file: file.name)


def colour(picture: np.ndarray) -> float:
    """How far from grey a picture [H,W,3] is."""
    return float((picture.max(axis=-1) - picture.min(axis=-1)).mean())


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_opens(renderer: str, visit: Visit, name: str) -> None:
    """Before any run, since messages about a run stay for a while."""
    visit.open_template(name)
    visit.wait_until_uncovered()
    visit.keep(f"{renderer}_{name}")
    assert visit.messages() == []
    assert visit.overlapping() == []
    assert visit.page.evaluate("app.graph.nodes.every(node => LiteGraph.registered_node_types[node.type])")
    visit.select("MarkdownNote")
    visit.page.get_by_role("button", name="Fit View (.)").click()
    visit.wait_until_whole(visit.page.get_by_role("heading", name="The real weights").locator("..").locator("> *"))
    visit.keep(f"{renderer}_{name}_note")


def test_run_shows_a_preview_and_the_picture(renderer: str, visit: Visit) -> None:
    """Half way the sampler shows a picture with undecided tokens faded; the end is saved with its graph."""
    visit.reload()
    visit.open_template("text_to_image")
    visit.change("AmusedTextEncode", "positive", "a cat on a pink background")
    visit.change("AmusedSampler", "steps", MANY)
    visit.queue()
    preview, seen = visit.look("AmusedSampler", step=MANY // 2)
    visit.keep(f"{renderer}_halfway")
    assert seen["step"] >= MANY // 2 and seen["ended"] is None, "the preview was not seen while the sampler ran"
    assert max(seen["size"]) >= 128 and preview.std() > 10
    visit.cancel()
    assert visit.finish() == "execution_interrupted"

    visit.change("AmusedSampler", "steps", 12)
    wanted = visit.api()
    visit.queue()
    assert visit.finish() == "execution_success"
    picture, seen = visit.look("SaveImage")
    visit.keep(f"{renderer}_result")
    assert seen["size"] == [128, 128] and picture.std() > 10
    assert colour(preview) < 0.8 * colour(picture), "undecided tokens are not faded"

    visit.clear()
    visit.drop(saved(visit).read_bytes())
    visit.page.wait_for_function("() => app.graph.nodes.length > 1")
    visit.keep(f"{renderer}_dropped")
    assert visit.api() == wanted


def test_subgraph_draws_the_same(renderer: str, visit: Visit) -> None:
    """Sampler and decoder put into a subgraph, saved and opened again, draw what they draw without it."""
    visit.open_template("text_to_image")
    text, seed = "a fox on a blue background", 5 if renderer == "canvas" else 6
    visit.change("AmusedTextEncode", "positive", text)
    visit.change("AmusedSampler", "seed", seed)
    flat = visit.api()
    visit.select("AmusedSampler", "AmusedVQDecode")
    visit.tool("Convert Selection to Subgraph", "convert-to-subgraph-button").click()
    visit.page.wait_for_function("() => !app.graph.nodes.some(node => node.type.startsWith('AmusedSampler'))")
    visit.keep(f"{renderer}_subgraph")
    nested = visit.api()
    assert sorted(node["class_type"] for node in nested.values()) == sorted(n["class_type"] for n in flat.values())
    visit.page.evaluate(SAVE)
    assert visit.api() == nested

    visit.queue()
    assert visit.finish() == "execution_success"
    _, seen = visit.look("SaveImage")
    assert seen["size"] == [128, 128]
    visit.keep(f"{renderer}_subgraph_result")
    picture = np.asarray(Image.open(saved(visit)).convert("RGB"), dtype=np.float32)
    expected = 255 * load_model().generate(text, seed=seed).images[0].numpy()
    assert np.abs(picture - expected).mean() < 1
