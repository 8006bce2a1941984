"""A user's visit in English: finding nodes, opening a template, running it, reading a help page, dropping a picture."""

from __future__ import annotations

from pathlib import Path

import node_texts
import numpy as np
import pytest

from tests.browser.visit import Visit

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
NAMES = {node: texts["display_name"] for node, texts in node_texts.read("en", "nodeDefs").items()}
LOADED = "images => images.length && images.every(image => image.complete && image.naturalWidth >= 128)"


def page_of(node: str, language: str = "en") -> list[str]:
    """Lines of a help page."""
    return (node_texts.DOCS / node / f"{language}.md").read_text("utf-8").splitlines()


def heading(node: str, language: str = "en") -> str:
    """Heading of a help page."""
    return next(line[2:] for line in page_of(node, language) if line.startswith("# "))


def test_console_errors_are_seen(visit: Visit) -> None:
    """The check at the end of every test can fail."""
    visit.page.evaluate("() => { console.error('from aMUSEd'); setTimeout(() => { throw new Error('nobody'); }); }")
    visit.page.evaluate("() => new Promise(resolve => setTimeout(resolve, 10))")
    assert ["from aMUSEd" in error or "nobody" in error for error in visit.errors] == [True, True]
    visit.errors.clear()


def test_search_finds_every_node(visit: Visit) -> None:
    visit.clear()
    found = visit.search("amused")
    for name in NAMES.values():
        found.filter(has=visit.page.get_by_text(name, exact=True)).first.wait_for()
    visit.keep("search")
    listed = {text.splitlines()[0].strip() for text in found.all_inner_texts()}
    assert set(NAMES.values()) <= listed
    found.filter(has=visit.page.get_by_text(NAMES["AmusedSampler"], exact=True)).first.click()
    visit.page.wait_for_function("() => app.graph.nodes.length === 1")
    assert visit.page.evaluate("app.graph.nodes[0].type") == "AmusedSampler"


def test_templates_have_pictures(visit: Visit) -> None:
    visit.clear()
    visit.browse_templates()
    content = visit.page.get_by_test_id("template-workflows-content")
    for name in TEMPLATES:
        card = content.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()
        picture = card.locator("img").first
        picture.wait_for()
        visit.page.wait_for_function(f"image => ({LOADED})([image])", arg=picture.element_handle())
    content.locator("[data-testid^=template-workflow-]").first.scroll_into_view_if_needed()
    visit.keep("templates")
    visit.page.locator(".p-dialog button:has(.pi-times)").click()
    visit.page.locator(".p-dialog").wait_for(state="detached")


def test_run_shows_a_preview_and_the_picture(visit: Visit) -> None:
    """A template is run; before the end its sampler shows a veiled picture; the end is saved with its graph."""
    visit.open_template("text_to_image")
    change = """() => {
      const widget = (type, name) => app.graph.nodes.find(n => n.type === type).widgets.find(w => w.name === name);
      widget('AmusedTextEncode', 'positive').value = 'a cat on a pink background';
      widget('AmusedSampler', 'steps').value = 80;
    }"""
    visit.page.evaluate(change)
    wanted = visit.api()
    visit.queue()
    preview, seen = visit.look("AmusedSampler", step=20)
    visit.keep("on_the_way")
    assert seen["step"] >= 20 and seen["ended"] is None, "the preview was not seen while the sampler ran"
    assert max(seen["size"]) >= 128 and preview.std() > 10
    assert visit.finish() == "execution_success"
    visit.page.wait_for_function("() => app.graph.nodes.find(n => n.type === 'SaveImage').imgs?.[0]?.complete")
    picture, seen = visit.look("SaveImage")
    visit.keep("result")
    assert seen["size"] == [128, 128] and picture.std() > 10
    assert np.abs(preview - picture).mean() > 3, "the preview is the finished picture"

    visit.clear()
    (saved,) = (visit.server.files / "output" / "amused").glob("text_to_image*.png")
    visit.drop(saved.read_bytes())
    visit.page.wait_for_function("() => app.graph.nodes.length > 1")
    visit.keep("dropped")
    assert visit.api() == wanted


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_opens(visit: Visit, name: str) -> None:
    visit.open_template(name)
    visit.keep(f"template_{name}")
    assert visit.messages() == []
    assert visit.covered() == []
    assert visit.page.evaluate("app.graph.nodes.every(node => LiteGraph.registered_node_types[node.type])")
    words = visit.page.locator(".comfy-markdown .tiptap").last
    assert "hf download amused/amused-512" in words.inner_text()
    assert words.evaluate("words => words.scrollHeight <= words.clientHeight + 1"), "the note is cut"


def test_help_page(visit: Visit) -> None:
    visit.add("AmusedSampler")
    shown = visit.help(heading("AmusedSampler"))
    picture = shown.locator("img").first
    visit.page.wait_for_function(f"image => ({LOADED})([image])", arg=picture.element_handle())
    assert "/docs/pictures/" in picture.get_attribute("src")
    visit.keep("help")
    text = shown.inner_text()
    assert "Tokens are decided for good" in text and "The common mistake" in text
    assert shown.locator("table").count() == 2
    shown.locator("table").first.scroll_into_view_if_needed()
    visit.keep("help_table")


@pytest.mark.parametrize("node", sorted(NAMES))
def test_every_node_has_its_page(visit: Visit, node: str) -> None:
    visit.add(node)
    assert "The common mistake" in visit.help(heading(node)).inner_text()
