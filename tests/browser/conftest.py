"""One ComfyUI with this pack and one browser for all tests of this folder; screenshots go to output/browser/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_server import ComfyServer

from tests.browser.visit import Visit

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these start a server."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def whole_visit() -> Iterator[Visit]:
    """A frontend in a browser: the one in the folder COMFYUI_FRONTEND, or else ComfyUI's own."""
    pytest.importorskip("playwright", reason="Playwright is not installed: pip install playwright")
    from frontend import chromium, frontend

    if chromium() is None:
        pytest.skip("no Chromium on this machine; on Debian: apt install chromium")
    folder = os.environ.get("COMFYUI_DIR")
    if not folder:
        pytest.skip("COMFYUI_DIR is not set: no ComfyUI to visit")
    visit = Visit()
    arguments = ["--cpu", "--preview-method", "taesd"]
    if static := os.environ.get("COMFYUI_FRONTEND"):
        arguments += ["--front-end-root", static]
    with ComfyServer(Path(folder), arguments=arguments) as server:
        visit.server = server
        with frontend(server, (1600, 900), visit.listen) as page:
            yield visit.at(page)


@pytest.fixture
def visit(whole_visit: Visit) -> Iterator[Visit]:
    """The browser; whatever a test does there, the pack must not cause an error."""
    whole_visit.errors.clear()
    yield whole_visit
    assert whole_visit.errors == []
