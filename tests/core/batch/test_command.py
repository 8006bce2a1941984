"""`amused batch` and `amused decode`: options, exit codes, and what they print."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from amused_core.batch.model_backend import ModelBackend
from amused_core.cli import main
from tests.core.batch.fakes import outcome, records


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("id,prompt,steps\na,a cat,\nb,a {red|blue} dog,1\nc,a bird,\n", encoding="utf-8")
    return path


def batch(folder: Path, *words: Any) -> int:
    return main(["batch", *map(str, words), "--model", str(folder), "--set", "steps=2", "cfg=2"])


def test_a_table_becomes_pictures(folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch(folder, rows, tmp_path / "out") == 0
    shown = capsys.readouterr()
    assert "results.jsonl: 3 images, 3 of them now" in shown.out and "3/3" in shown.err and "images/s" in shown.err
    assert [record["steps"] for record in records(tmp_path / "out")] == [2, 1, 2]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "b.png", "c.png"]
    before = outcome(tmp_path / "out")
    assert batch(folder, rows, tmp_path / "out") == 0
    assert "3 images, 0 of them now" in capsys.readouterr().out and outcome(tmp_path / "out") == before


def test_bad_rows_give_3(folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows.write_text(rows.read_text() + "d,,2\n")
    assert batch(folder, rows, tmp_path / "out") == 3
    assert "1 could not be generated; errors.jsonl" in capsys.readouterr().err
    assert json.loads((tmp_path / "out/errors.jsonl").read_text())["place"] == "line 5"
    assert batch(folder, rows, tmp_path / "out", "--retry-errors") == 3


def test_ctrl_c_finishes_the_batch_in_hand(
    folder: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, before = ModelBackend.draw, signal.getsignal(signal.SIGINT)

    def interrupted(self: ModelBackend, pictures: Any) -> Any:
        if pictures[0].id == "b":
            signal.raise_signal(signal.SIGINT)
        return draw(self, pictures)

    with monkeypatch.context() as patch:
        patch.setattr(ModelBackend, "draw", interrupted)
        assert batch(folder, rows, tmp_path / "out", "--batch", 1) == 130
    assert "stopping after this batch" in capsys.readouterr().err
    kept = [record["id"] for record in records(tmp_path / "out")]
    assert "b" in kept and all((tmp_path / "out" / f"{name}.png").is_file() for name in kept)
    assert signal.getsignal(signal.SIGINT) is before
    assert batch(folder, rows, tmp_path / "out") == 0 and len(records(tmp_path / "out")) == 3


def test_a_dry_run_writes_nothing(folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch(folder, rows, tmp_path / "out", "--dry-run", "--grid", "cfg=1,2", "schedule=linear,cosine") == 0
    shown = capsys.readouterr().out
    assert (
        "rows: 3, images: 12, to generate here: 12 in 8 batches" in shown and "time: about" in shown and "disk" in shown
    )
    assert not (tmp_path / "out").exists()


def test_tokens_first_and_pictures_later(folder: Path, rows: Path, tmp_path: Path) -> None:
    assert batch(folder, rows, tmp_path / "plain") == 0
    assert batch(folder, rows, tmp_path / "tokens", "--tokens", "only", "--format", "webdataset") == 0
    assert main(["decode", str(tmp_path / "tokens"), str(tmp_path / "out"), "--model", str(folder)]) == 0
    for name in ("a.png", "b.png", "c.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_results_are_rows_again(folder: Path, rows: Path, tmp_path: Path) -> None:
    """What a job wrote draws the same pictures."""
    assert batch(folder, rows, tmp_path / "one") == 0
    assert main(["batch", str(tmp_path / "one/results.jsonl"), str(tmp_path / "two"), "--model", str(folder)]) == 0
    assert outcome(tmp_path / "one")["b.png"] == outcome(tmp_path / "two")["b.png"]
    assert records(tmp_path / "one") == records(tmp_path / "two")


def test_layouts(folder: Path, rows: Path, tmp_path: Path) -> None:
    assert batch(folder, rows, tmp_path / "g", "--layout", "geneval") == 0
    assert len(list((tmp_path / "g").glob("0000[0-2]/samples/000[0-3].png"))) == 12
    assert batch(folder, rows, tmp_path / "n", "--name", "{steps}/{id}") == 3, "rows without steps have no such name"
    with Image.open(tmp_path / "n/1/b.png") as picture:
        assert picture.size == (32, 32)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--set", "stepz=1"], "'stepz'"),
        (["--batch", "many"], "--batch is 'many'"),
        (["--batch", "0"], "batch is 0"),
        (["--shard", "4/4"], "--shard is '4/4'"),
        (["--format", "zip"], "format is 'zip'"),
        (["--tokens", "some"], "tokens is 'some'"),
        (["--seed", "-1"], "--seed is -1"),
        (["--layout", "x"], "--layout is 'x'"),
        (["--name", "../{id}"], "'../{id}'"),
        (["--model", "no/model"], "no/model"),
    ],
)
def test_refused(
    folder: Path, rows: Path, tmp_path: Path, words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", str(rows), str(tmp_path / "out"), *words]) == 2
    shown = capsys.readouterr().err
    assert part in shown and shown.count("\n") == 1 and not (tmp_path / "out").exists()


def test_nothing_to_decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "is no folder of a batch job" in capsys.readouterr().err
