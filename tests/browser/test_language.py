"""The same frontend after its language has been set to Arabic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import node_texts
import pytest

from tests.browser.test_visit import heading, page_of
from tests.browser.visit import Visit

ARABIC: dict[str, Any] = node_texts.read("ar", "nodeDefs")
SET = "language => app.extensionManager.setting.set('Comfy.Locale', language)"
SHOWN = """
() => app.graph.nodes.filter(node => node.type.startsWith('Amused')).map(node => [node.type, node.title,
  Object.fromEntries([...node.inputs.map(input => [input.name, input.label ?? input.localized_name]),
                      ...(node.widgets ?? []).map(widget => [widget.name, widget.label])])])
"""


@pytest.fixture
def arabic(visit: Visit) -> Iterator[Visit]:
    """The browser with its language just set to Arabic; English again afterwards."""
    visit.clear()
    run = visit.page.get_by_role("button", name="Run", exact=True).first
    run.wait_for()
    visit.page.evaluate(SET, "ar")
    run.wait_for(state="hidden")
    yield visit
    visit.page.evaluate(SET, "en")
    visit.reload()


def check_inputs(visit: Visit) -> list[str]:
    """Every input of every node of the pack is named in Arabic; returns the nodes' titles."""
    nodes = visit.page.evaluate(SHOWN)
    assert nodes
    for node, _, shown in nodes:
        wanted = {name: texts["name"] for name, texts in ARABIC[node]["inputs"].items()}
        assert {name: shown[name] for name in wanted} == wanted
    return [title for _, title, _ in nodes]


def test_names_and_help_are_arabic(arabic: Visit) -> None:
    """New nodes name their inputs in Arabic at once; titles follow when the page is loaded anew, as of stock nodes."""
    arabic.add("AmusedSampler")
    check_inputs(arabic)
    arabic.reload()
    arabic.open_template("text_to_image")
    titles = {texts["display_name"] for texts in ARABIC.values()}
    assert set(check_inputs(arabic)) <= titles
    assert {"steps", "cfg", "seed"} <= set(arabic.api()["4"]["inputs"]), "translated names reach the server"
    listed = "[...Object.values(LiteGraph.registered_node_types)].map(node => node.title)"
    assert titles <= set(arabic.page.evaluate(listed))

    arabic.select("AmusedSampler")
    page = arabic.help(heading("AmusedSampler", "ar"))
    arabic.keep("arabic")
    assert page.evaluate("page => getComputedStyle(page).direction") == "rtl"
    lines = page_of("AmusedSampler", "ar")
    sentence = lines[lines.index("# " + heading("AmusedSampler", "ar")) + 2].split(".")[0]
    assert len(sentence) > 5 and sentence in page.inner_text()
