"""A user's visit in English: finding nodes, browsing templates, reading help pages."""

from __future__ import annotations

from pathlib import Path

import node_texts
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


def test_messages_are_seen(visit: Visit) -> None:
    """The check that a template causes no message can fail."""
    node = {"id": 1, "type": "NoSuchNode", "pos": [100, 100], "size": [200, 100], "flags": {}, "order": 0, "mode": 0}
    workflow = {"version": 0.4, "nodes": [node], "links": [], "groups": [], "last_node_id": 1, "last_link_id": 0}
    visit.page.evaluate("workflow => app.loadGraphData(workflow, true, true, 'unknown')", workflow)
    visit.page.get_by_text("NoSuchNode").first.wait_for()
    assert any("NoSuchNode" in message for message in visit.messages())
    visit.reload()


def test_search_finds_every_node(visit: Visit) -> None:
    visit.clear()
    found = visit.search("amused")
    for name in NAMES.values():
        found.filter(has=visit.page.get_by_text(name, exact=True)).first.wait_for()
    visit.keep("search")
    found.filter(has=visit.page.get_by_text(NAMES["AmusedSampler"], exact=True)).first.click()
    visit.page.wait_for_function("() => app.graph.nodes.length === 1")
    # Newer frontends hang the node on the mouse until the next click.
    visit.page.mouse.click(900, 400, delay=20)
    visit.page.wait_for_function("() => !app.graph.nodes[0].flags.ghost")
    assert visit.page.evaluate("app.graph.nodes[0].type") == "AmusedSampler"


def test_templates_have_pictures(visit: Visit) -> None:
    visit.clear()
    dialog = visit.browse_templates()
    for name in TEMPLATES:
        dialog.get_by_role("heading", name=name, exact=True).scroll_into_view_if_needed()
        picture = dialog.get_by_role("img", name=name, exact=True).first
        picture.wait_for()
        visit.page.wait_for_function(f"image => ({LOADED})([image])", arg=picture.element_handle())
    dialog.get_by_role("heading", level=3).first.scroll_into_view_if_needed()
    visit.keep("templates")
    dialog.get_by_role("heading", name="text_to_image", exact=True).click()
    dialog.wait_for(state="hidden")


def test_help_page(visit: Visit) -> None:
    visit.add("AmusedSampler")
    shown = visit.help(heading("AmusedSampler"))
    picture = shown.locator("img").first
    visit.page.wait_for_function(f"image => ({LOADED})([image])", arg=picture.element_handle())
    assert "/docs/pictures/" in picture.get_attribute("src")
    visit.keep("help")
    text = shown.inner_text()
    assert "Unmasked tokens no longer change" in text and "Common mistakes" in text
    assert shown.locator("table").count() == 2
    shown.locator("table").first.scroll_into_view_if_needed()
    visit.keep("help_table")


@pytest.mark.parametrize("node", sorted(NAMES))
def test_every_node_has_its_page(visit: Visit, node: str) -> None:
    visit.add(node)
    assert "Common mistakes" in visit.help(heading(node)).inner_text()
