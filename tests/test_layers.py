"""Imports of the pack go one way: no file needs one that needs it, not within a function, and not for types alone."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def module(place: Path) -> Path | None:
    """The file of a module or package."""
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def imported(path: Path) -> set[Path]:
    """The files that a file imports relatively."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            place = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            found |= {module(place / name.name) or module(place) for name in node.names}
    return found


def check(folder: Path) -> None:
    """Raises `CycleError` where files of `folder` import each other in a circle."""
    TopologicalSorter({path: imported(path) for path in folder.rglob("*.py")}).prepare()


@pytest.mark.parametrize("folder", ["amused_core", "nodes"])
def test_one_way(folder: str) -> None:
    check(ROOT / folder)


def test_the_core_needs_nothing_above_it() -> None:
    core = ROOT / "amused_core"
    for path in core.rglob("*.py"):
        assert all(file is not None and core in file.parents for file in imported(path)), path


def test_a_circle_is_seen(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "__init__.py").write_text("from .low import a")
    (tmp_path / "part" / "low.py").write_text("a = 1")
    (tmp_path / "high.py").write_text("from .part import a")
    check(tmp_path)
    (tmp_path / "part" / "low.py").write_text("def late():\n    from .. import high")
    with pytest.raises(CycleError):
        check(tmp_path)
