"""Documents name only tests, modules and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)?::(\w+)`")
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "amused_core/embedded/README.md"]
DOCUMENTS += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
FOLDERS = "amused_core|docs|locales|nodes|tests|tools|web|workflows"
PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./*-]*[\w*/]")
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
PYTHON = re.compile(r"`((?:\w+/)*\w+\.py)`")


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


def missing_files(document: str, text: str) -> set[str]:
    """Paths (`*` matches any name), links and Python files (by the end of their paths) in `text` that do not exist."""
    paths = {path for path in PATH.findall(text) if not any(ROOT.glob(path.rstrip("/")))}
    links = {link for link in LINK.findall(text) if "://" not in link}
    links = {link for link in links if not (ROOT / document).parent.joinpath(link).exists()}
    code = {
        path.relative_to(ROOT).as_posix() for folder in FOLDERS.split("|") for path in (ROOT / folder).rglob("*.py")
    }
    files = {file for file in PYTHON.findall(text) if not any(f"/{path}".endswith(f"/{file}") for path in code)}
    return paths | links | files


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document: str) -> None:
    assert missing_files(document, (ROOT / document).read_text("utf-8")) == set()


def test_a_missing_file_is_found() -> None:
    text = "`nodes/gone.py`, [here](no.md), `gone/vq.py`, `vq.py`, `tests/core/*/test_*.py`, python tools/demo.py"
    assert missing_files("README.md", text) == {"nodes/gone.py", "no.md", "gone/vq.py"}
