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

PARTS = ("part-00000.tar", "part-00000.parquet")


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


def test_results_are_rows_again_with_their_images(folder: Path, tmp_path: Path) -> None:
    """Names are still relative to the first table, even where a job wrote an image of the same name."""
    Image.new("RGB", (32, 32), "red").save(tmp_path / "cat.png")
    (tmp_path / "rows.jsonl").write_text('{"id": "cat", "prompt": "a cat", "image": "cat.png", "seed": 1}')
    table = tmp_path / "rows.jsonl"
    for name in ("one", "two", "three"):
        assert main(["batch", str(table), str(tmp_path / name), "--model", str(folder)]) == 0
        table = tmp_path / name / "results.jsonl"
    assert outcome(tmp_path / "one")["cat.png"] == outcome(tmp_path / "three")["cat.png"]


def test_overwriting_spares_the_rows(
    folder: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(folder, rows, tmp_path / "out") == 0
    before = outcome(tmp_path / "out")
    assert batch(folder, tmp_path / "out/results.jsonl", tmp_path / "out", "--overwrite") == 2
    assert "--overwrite would remove the rows" in capsys.readouterr().err and outcome(tmp_path / "out") == before


@pytest.mark.parametrize("layout", ["geneval", "hpsv2"])
def test_layouts_of_tokens(folder: Path, tmp_path: Path, layout: str) -> None:
    """Decoding writes what would have been written at once, rows that failed between the others."""
    lines = ['{"prompt": "a cat", "style": "anime"}', '{"style": "anime"}', '{"prompt": "a dog", "style": "anime"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    assert batch(folder, tmp_path / "rows.jsonl", tmp_path / "plain", "--layout", layout) == 3
    assert batch(folder, tmp_path / "rows.jsonl", tmp_path / "tokens", "--layout", layout, "--tokens", "only") == 3
    assert main(["decode", str(tmp_path / "tokens"), str(tmp_path / "out"), "--model", str(folder)]) == 3
    plain, decoded = outcome(tmp_path / "plain"), outcome(tmp_path / "out")
    assert plain.keys() == decoded.keys()
    assert all(plain[name] == decoded[name] for name in plain if name.endswith((".jpg", ".png", "metadata.jsonl")))


def test_parts_of_tokens(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(['{"prompt": "a"}', "{}", *['{"prompt": "a"}'] * 3]))
    how = (tmp_path / "rows.jsonl", "--format", "webdataset", "--part", 2)
    assert batch(folder, how[0], tmp_path / "plain", *how[1:]) == 3
    assert batch(folder, how[0], tmp_path / "tokens", *how[1:], "--tokens", "only") == 3
    command = ["decode", str(tmp_path / "tokens"), str(tmp_path / "out"), "--model", str(folder)]
    assert main([*command, "--format", "webdataset"]) == 3
    for name in ("part-00000.tar", "part-00001.tar", "part-00002.tar"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


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
        (["--grid", "count=1,2"], "--grid has count=1,2"),
        (["--batch", "many"], "--batch is 'many'"),
        (["--batch", "0"], "batch is 0"),
        (["--shard", "4/4"], "--shard is '4/4'"),
        (["--format", "zip"], "format is 'zip'"),
        (["--tokens", "some"], "tokens is 'some'"),
        (["--seed", "-1"], "--seed is -1"),
        (["--layout", "x"], "--layout is 'x'"),
        (["--name", "../{id}"], "'../{id}'"),
        (["--model", "no/model"], "no/model"),
        (["--lora", "no.safetensors:0.5"], "no.safetensors'; allowed"),
        (["--set", "lora=no.safetensors"], "no.safetensors'; allowed"),
        (["--grid", "lora=no.safetensors"], "no.safetensors'; allowed"),
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


@pytest.mark.parametrize("form", ["files", "webdataset", "parquet"])
def test_damaged_tokens(
    folder: Path, rows: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(folder, rows, tmp_path / "tokens", "--tokens", "only", "--format", form) == 0
    (file,) = [path for path in (tmp_path / "tokens").iterdir() if path.name in ("a.npy", *PARTS)]
    file.write_bytes(file.read_bytes()[:100])
    capsys.readouterr()
    assert main(["decode", str(tmp_path / "tokens"), str(tmp_path / "out"), "--model", str(folder)]) == 2
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{file.name} in" in shown and "is damaged: " in shown
    (tmp_path / "tokens/job.json").write_text('{"a": 1}')
    assert main(["decode", str(tmp_path / "tokens"), str(tmp_path / "out"), "--model", str(folder)]) == 2
    assert "job.json in" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["png", "jpg", "tokens"])
def test_columns_that_parquet_has_itself(
    folder: Path, tmp_path: Path, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "a", column: 1}))
    assert batch(folder, tmp_path / "rows.jsonl", tmp_path / "out", "--format", "parquet") == 2
    assert f"a column {column!r}, which --format parquet writes" in capsys.readouterr().err
    assert batch(folder, tmp_path / "rows.jsonl", tmp_path / "out") == 0
