"""`amused bench --growth` on tiny models."""

from __future__ import annotations

from pathlib import Path

from tests.core.bench.runs import AGAIN, report, run


def test_growth(folder: Path, tmp_path: Path) -> None:
    points = ("--batches", "1", "2", "--sizes", "16", "32", "--step-counts", "2", "4")
    assert run(folder, tmp_path, "--growth", *points, "--measured-steps", "2", "--repeats", "1") == 0
    found = report(tmp_path, "growth")["growth"]["points"]
    assert [(point["axis"], point["value"]) for point in found] == [
        ("batch", 1), ("batch", 2), ("size", 16), ("size", 32), ("steps", 2), ("steps", 4)
    ]  # fmt: skip
    assert [point["batch"] for point in found] == [1, 2, 1, 1, 1, 1]
    assert [point["width"] for point in found] == [32, 32, 16, 32, 32, 32]
    assert [point["sides"]["pack"]["composed"] for point in found] == [True] * 4 + [False] * 2
    assert all(point["equal"]["tokens"] == 1 for point in found)
    assert found[1]["flop"]["step"] == 2 * found[0]["flop"]["step"]
    assert (tmp_path / "growth.png").exists() and "By pixels per side" in (tmp_path / "growth.md").read_text()


def test_growth_leaves_out_what_is_dear(folder: Path, tmp_path: Path) -> None:
    points = ("--batches", "1", "--sizes", "32", "--step-counts", "2")
    assert run(folder, tmp_path, "--growth", *points, "--reference-below", "0", "--repeats", "1") == 0
    assert all(set(p["sides"]) == {"pack", AGAIN} for p in report(tmp_path, "growth")["growth"]["points"])
