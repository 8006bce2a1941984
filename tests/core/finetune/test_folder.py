"""Which files of a folder are learnt from, and that none is left out without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, features

from amused_core.finetune.examples import read_examples
from amused_core.finetune.folder import DatasetReport


def read(source: Path, caption: str | None = None) -> tuple[list[Any], DatasetReport]:
    report = DatasetReport()
    return list(read_examples(source, caption, (32, 32), 4, report)), report


def save(path: Path, caption: str | None = None, ending: str = ".txt") -> None:
    Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(path)
    if caption is not None:
        path.with_suffix(ending).write_text(caption, encoding="utf-8")


READ = ["jfif", "jpe", "tga", "ppm", "pgm", "pnm", "dib", "pcx", "ico", "sgi", "jp2", "avif", "apng", "PNG", "JPG"]


@pytest.mark.parametrize("ending", READ)
def test_what_pillow_reads_is_read(ending: str, tmp_path: Path) -> None:
    """kohya-trainer#174."""
    codec = {"avif": "avif", "jp2": "jpg_2000"}.get(ending)
    if codec and not features.check(codec):
        pytest.skip(f"this Pillow has no {codec}")
    file = tmp_path / f"a.{ending}"
    mode = "L" if ending == "pgm" else "RGB"
    Image.linear_gradient("L").resize((32, 32)).convert(mode).save(file)
    file.with_suffix(".txt").write_text("a ramp")
    examples, report = read(tmp_path)
    assert [example.caption for example in examples] == ["a ramp"] and report.left_out == []


@pytest.mark.parametrize("name", ["a.heic", "a.HEIC", "a.jxl", "a.dng", "a.svg"])
def test_pictures_that_pillow_does_not_read_are_named(name: str, tmp_path: Path) -> None:
    save(tmp_path / "b.png", "a ramp")
    (tmp_path / name).write_bytes(b"\0" * 100)
    examples, report = read(tmp_path, caption="any")
    assert len(examples) == 1
    assert report.left_out == [(name, f"Pillow reads no {name[1:].lower()} files here; save it as .png or .jpg")]
    assert name in report.text()


@pytest.mark.parametrize("name", ["a.xyz", "a"])
def test_a_caption_makes_a_file_a_picture(name: str, tmp_path: Path) -> None:
    save(tmp_path / "b.png", "a ramp")
    (tmp_path / name).write_bytes(b"\0" * 100)
    (tmp_path / "a.txt").write_text("a thing")
    assert [left for left, _ in read(tmp_path)[1].left_out] == [name]


def test_files_that_belong_to_a_picture_are_not_named(tmp_path: Path) -> None:
    save(tmp_path / "b.png", "a ramp")
    for name in ("b.json", "b.npz", "notes.md", ".DS_Store"):
        (tmp_path / name).write_bytes(b"{}")
    examples, report = read(tmp_path)
    assert len(examples) == 1 and report.text() == "1 used, 0 left out"


def test_a_folder_within_is_named(tmp_path: Path) -> None:
    save(tmp_path / "b.png", "a ramp")
    for name in ("10_style", "empty"):
        (tmp_path / name).mkdir()
    save(tmp_path / "10_style" / "c.png", "another")
    assert read(tmp_path)[1].left_out == [("10_style", "it is a folder; images in it are not read")]


def test_caption_files(tmp_path: Path) -> None:
    save(tmp_path / "a.png", "of a", ".caption")
    save(tmp_path / "b.png", "of b", ".txt")
    save(tmp_path / "c.png", "of c", ".txt")
    save(tmp_path / "c.png", "not this", ".caption")
    save(tmp_path / "d.png")
    examples, report = read(tmp_path)
    assert [example.caption for example in examples] == ["of a", "of b", "of c"]
    assert report.left_out == [("d.png", "it has no caption: there is no d.txt or d.caption")]
    assert report.changed == [("c.png", "its caption is that of c.txt; c.caption is not read")]


def test_a_caption_that_cannot_be_read(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", "of b")
    (tmp_path / "a.caption").write_bytes(b"caf\xe9")
    assert "a.caption cannot be read" in dict(read(tmp_path)[1].left_out)["a.png"]


def test_one_picture_with_a_caption_file(tmp_path: Path) -> None:
    save(tmp_path / "a.png", "of a", ".caption")
    assert read(tmp_path / "a.png")[0][0].caption == "of a"
