"""Documents that name tests and modules name those that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)?::(\w+)`")


def named_tests(text: str) -> list[tuple[str, str]]:
    """(file, test) of every `file::test` in a text; `::test` means the file named before it."""
    found, file = [], ""
    for match in NAMED.finditer(text):
        file = match[1] or file
        found.append((file, match[2]))
    return found


@pytest.mark.parametrize("document", ["docs/pains.md"])
def test_named_tests_exist(document: str) -> None:
    found = named_tests((ROOT / document).read_text("utf-8"))
    assert found
    missing = [
        f"{file}::{test}"
        for file, test in found
        if not re.search(rf"^def {test}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE)
    ]
    assert not missing


def test_fifteen_pains_have_an_answer_and_a_proof() -> None:
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs" / "pains.md").read_text("utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 16))
    for _, row in rows:
        pain, seen, answer, proof = (cell.strip() for cell in row.split(" | "))
        assert pain and answer and re.search(r"\w#\d", seen)
        assert "::" in proof or "make test-full" in proof or "not yet" in proof


def test_named_modules_can_be_run() -> None:
    texts = [path.read_text("utf-8") for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]]
    modules = {name for text in texts for name in re.findall(r"-m (amused_core[\w.]*)", text)}
    assert len(modules) >= 7
    for name in modules:
        assert '__name__ == "__main__"' in (ROOT / f"{name.replace('.', '/')}.py").read_text("utf-8"), name
