"""What a running ComfyUI serves to its frontend: help pages, their pictures, and translations."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import node_texts
import pytest
from comfy_server import ComfyServer

pytestmark = pytest.mark.server


def fetch(server: ComfyServer, path: str) -> bytes:
    """A file that the server gives out."""
    with urllib.request.urlopen(server.address + path, timeout=60) as answer:
        return answer.read()


@pytest.fixture(scope="session")
def docs(server: ComfyServer) -> str:
    """Where the frontend looks for this pack's pages: the folder's name is in the module that the server tells."""
    module = server.get("/object_info/AmusedLoader")["AmusedLoader"]["python_module"]
    return f"/extensions/{module.split('.')[1]}/docs"


def test_pages_and_pictures(server: ComfyServer, docs: str) -> None:
    files = [path for path in node_texts.DOCS.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        assert fetch(server, f"{docs}/{path.relative_to(node_texts.DOCS).as_posix()}") == path.read_bytes()


def test_no_page_in_a_language_without_one(server: ComfyServer, docs: str) -> None:
    """The frontend then shows the descriptions and tooltips."""
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(server, f"{docs}/AmusedLoader/ja.md")


@pytest.mark.parametrize("language", node_texts.LANGUAGES)
def test_translations(server: ComfyServer, language: str) -> None:
    served: dict[str, Any] = server.get("/i18n")[language]
    for node, texts in node_texts.read(language, "nodeDefs").items():
        assert served["nodeDefs"][node] == texts
    assert served["nodeCategories"].items() >= node_texts.read(language, "main")["nodeCategories"].items()
