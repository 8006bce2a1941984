"""Fine-tuning: reading pictures and captions, and what bad ones do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from amused_core import AmusedError, AmusedModel
from amused_core.finetune.dataset import encode_examples
from amused_core.finetune.examples import fit, read_examples
from amused_core.finetune.folder import DatasetReport
from tests.core.finetune.runs import save_picture


def read(source: Path, caption: str | None = None, size: tuple[int, int] = (32, 32)) -> tuple[list[Any], DatasetReport]:
    report = DatasetReport()
    return list(read_examples(source, caption, size, 4, report)), report


def test_folder_with_every_trouble(tmp_path: Path) -> None:
    """What cannot be used is named with its reason; the rest goes on."""
    for name, mode in (("a.png", "RGB"), ("cmyk.jpg", "CMYK"), ("grey.png", "L"), ("alpha.png", "RGBA")):
        save_picture(tmp_path / name, mode=mode)
    save_picture(tmp_path / "dot.png", size=(1, 1))
    save_picture(tmp_path / "line.png", size=(400, 1))
    save_picture(tmp_path / "wide.webp", size=(96, 40))
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "text.jpg").write_text("hello")
    save_picture(tmp_path / "silent.png")
    save_picture(tmp_path / "lonely.png")
    save_picture(tmp_path / "latin.png")
    (tmp_path / "notes.md").write_text("no picture, and not meant as one")
    for path in tmp_path.iterdir():
        if path.stem not in ("lonely", "notes"):
            path.with_suffix(".txt").write_text("" if path.stem == "silent" else f"a {path.stem}\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    examples, report = read(tmp_path)
    assert [e.caption for e in examples] == ["a a", "a alpha", "a cmyk", "a grey", "a moving", "a wide"]
    assert report.used == 6
    why = dict(report.left_out)
    assert sorted(why) == sorted(
        ["cut.png", "dot.png", "latin.png", "line.png", "lonely.png", "silent.png", "text.jpg"]
    )
    for name, part in {
        "cut.png": "cannot be read as an image",
        "dot.png": "1x1 pixels",
        "line.png": "400x1 pixels",
        "text.jpg": "cannot be read as an image",
        "silent.png": "caption is empty",
        "lonely.png": "no lonely.txt",
        "latin.png": "cannot be read",
    }.items():
        assert part in why[name]
        assert name in report.text()
    changed = dict(report.changed)
    assert changed["moving.gif"] == "the first of 2 frames is used"
    assert changed["wide.webp"] == "96x40 resized to 77x32 and cut to 32x32"
    red = examples[4].picture.mean((0, 1, 2))
    assert red[0] > 0.9 and red[2] < 0.1
    assert examples[5].crop == (0, 22)
    for example in examples:
        assert example.picture.shape == (1, 32, 32, 3) and 0 <= example.picture.min() <= example.picture.max() <= 1


def test_nothing_left_is_a_clear_stop(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("hello")
    (tmp_path / "x.txt").write_text("a caption")
    with pytest.raises(AmusedError, match="Nothing in .* can be learnt from .*x.png.*cannot be read"):
        read(tmp_path)
    (tmp_path / "x.png").unlink()
    with pytest.raises(AmusedError, match="no images are in it"):
        read(tmp_path)
    with pytest.raises(AmusedError, match="Nothing at .*nowhere"):
        read(tmp_path / "nowhere")


def test_jsonl(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save_picture(tmp_path / "in" / "a.png")
    lines = [
        json.dumps({"image": "in/a.png", "text": "one"}),
        json.dumps({"image": str(tmp_path / "in" / "a.png"), "text": "two"}),
        "",
        "no json",
        json.dumps({"image": "in/b.png", "text": "three"}),
        json.dumps({"image": 3, "text": "four"}),
        json.dumps(["in/a.png"]),
        json.dumps({"image": "in/a.png"}),
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(lines), encoding="utf-8")
    examples, report = read(tmp_path / "list.jsonl")
    assert [e.caption for e in examples] == ["one", "two"]
    assert [name for name, _ in report.left_out] == ["line 4", "line 6", "line 7", "line 8", "b.png"]
    examples, _ = read(tmp_path / "list.jsonl", caption="any")
    assert [e.caption for e in examples] == ["one", "two", "any"]


def test_one_picture_wants_a_caption(png: Path) -> None:
    with pytest.raises(AmusedError, match=r"no picture\.txt"):
        read(png)
    assert read(png, "a castle")[0][0].caption == "a castle"
    png.with_suffix(".txt").write_text("a boat")
    assert read(png, "a castle")[0][0].caption == "a boat"


def test_fit_keeps_the_middle() -> None:
    wide = torch.zeros(1, 10, 30, 3)
    wide[:, :, 10:20] = 1
    fitted, crop, _ = fit(wide, 10, 10)
    assert fitted.shape == (1, 10, 10, 3) and crop == (0, 10) and fitted.min() > 0.99
    same_size, crop, how = fit(wide, 30, 10)
    assert same_size is wide and crop == (0, 0) and how == ""


def test_micro_conditioning_says_what_was_cut_off(tmp_path: Path, model: AmusedModel) -> None:
    save_picture(tmp_path / "wide.png", size=(64, 32))
    examples, _ = read(tmp_path / "wide.png", "a castle")
    assert encode_examples(examples, model.vq).micro.tolist() == [[32, 32, 0, 16, 6]]
