"""One running ComfyUI for all tests that talk to a server; the browser comes last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_server import ComfyServer


@pytest.fixture(scope="session")
def server() -> Iterator[ComfyServer]:
    """A ComfyUI with this pack; COMFYUI_DIR names it."""
    folder = os.environ.get("COMFYUI_DIR")
    if not folder:
        pytest.skip("COMFYUI_DIR is not set: no ComfyUI to test against")
    with ComfyServer(Path(folder)) as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the browser's tests last: Playwright keeps an event loop running, and ComfyUI wants its own."""
    items.sort(key=lambda item: "browser" in item.path.parts)
