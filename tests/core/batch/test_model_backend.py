"""A row's picture is what `generate` draws of it alone, whatever it was drawn together with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from amused_core import AmusedModel, load_model
from amused_core.batch.decoding import DecodingBackend, TokenSource
from amused_core.batch.engine import run
from amused_core.batch.job import Job
from amused_core.batch.model_backend import ModelBackend
from amused_core.batch.pictures import Expansion, expand
from amused_core.batch.rows import Row
from amused_core.files.tokens import save_tokens
from tests.core.batch.fakes import outcome, records
from tests.loras import UVIT, factors, write

COMMON = {"steps": 3, "cfg": 3.0}
ROWS: list[dict[str, Any]] = [
    {"prompt": "a cat"},
    {"prompt": "a dog", "negative_prompt": "x"},
    {"prompt": "a cat", "width": 40, "height": 24},
    {"prompt": "a cat", "image": "start.png", "strength": 0.7},
    {"prompt": "a dog", "image": "start.png", "mask": "mask.png"},
    {"prompt": "a dog", "image": "start.png", "mask": "mask.png", "keep_original": False, "strength": 0.8},
    {"prompt": "a cat", "lora": "style.safetensors:0.5"},
    {"prompt": "a cat", "temperature": (1.0, 0.2), "top_k": 9, "schedule": "linear"},
    {"prompt": "a dog", "lora": ["style.safetensors"], "seed": 2**64 - 1},
    {"prompt": "a bird", "seed": 3},
    {"prompt": "a cat", "fast": True, "int8": False},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, model: AmusedModel) -> Path:
    """A folder with what the rows name."""
    folder = tmp_path_factory.mktemp("rows")
    noise = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(folder / "start.png")
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 28, 20))
    mask.save(folder / "mask.png")
    write(folder / "style.safetensors", "peft", factors(model.transformer, UVIT))
    return folder


def rows() -> list[Row]:
    return [Row(number, f"line {number + 1}", {**COMMON, **row}) for number, row in enumerate(ROWS)]


def make_job(out: Path, place: Path, made: list[Row], **options: Any) -> Job:
    source = str(place / "rows.jsonl")
    return Job(lambda: expand(made, Expansion()), str(out), {}, **{"source": source, "batch": 4, "part": 6, **options})


def alone(model: AmusedModel, place: Path, record: dict[str, Any]) -> torch.Tensor:
    """The picture of a record, drawn by `generate` with what the record says and nothing else."""
    leave = ("number", "row", "id", "file", "status", "error", "model", "dtype", "lora")
    arguments = {name: value for name, value in record.items() if name not in leave}
    for name in ("image", "mask"):
        if name in arguments:
            arguments[name] = Image.open(place / arguments[name])
    for lora in record.get("lora", ()):
        path, _, strength = lora.partition(":")
        model.load_lora(place / path, float(strength or 1))
    try:
        return model.generate(**arguments)
    finally:
        model.unload_loras()


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path)))


@pytest.fixture(scope="module")
def drawn(place: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job's folder, with tokens."""
    out = tmp_path_factory.mktemp("drawn")
    summary = run(make_job(out, place, rows(), tokens="also"), ModelBackend(load_model(folder), str(place / "r.jsonl")))
    assert (summary.drawn, summary.errors) == (len(ROWS), 0)
    return out


def test_a_row_is_what_generate_draws_alone(drawn: Path, place: Path, model: AmusedModel) -> None:
    found = records(drawn)
    for record, row in zip(found, ROWS, strict=True):
        result = alone(model, place, record)
        assert torch.equal((result.images[0] * 255).round().byte(), pixels(drawn / record["file"])), record
        tokens = np.load((drawn / record["file"]).with_suffix(".npy"))
        assert tokens.dtype == np.uint16 and np.array_equal(tokens, result.tokens.numpy())
        for name in row.keys() - {"lora", "fast"}:
            said = tuple(record[name]) if isinstance(row[name], tuple) else record[name]
            assert said == row[name]
        about = json.loads(Image.open(drawn / record["file"]).text["amused"])
        assert about == {name: record[name] for name in about}
    assert len({(drawn / record["file"]).read_bytes() for record in found}) == len(ROWS)


@pytest.mark.parametrize("form", ["files", "webdataset", "parquet"])
def test_tokens_are_decoded_later(drawn: Path, place: Path, folder: Path, tmp_path: Path, form: str) -> None:
    """Also inside a mask, where the rest is the original's."""
    backend = ModelBackend(load_model(folder), str(place / "rows.jsonl"))
    run(make_job(tmp_path / "tokens", place, rows(), tokens="only", format=form), backend)
    assert not list((tmp_path / "tokens").glob("*.png"))
    source = TokenSource(str(tmp_path / "tokens"))
    job = Job(source.pictures, str(tmp_path / "out"), {}, source=source.source, batch=3)
    assert run(job, DecodingBackend(load_model(folder), source.source)).errors == 0
    names = [path.name for path in sorted(drawn.glob("*.png"))]
    assert len(names) == len(ROWS) and names == [path.name for path in sorted((tmp_path / "out").glob("*.png"))]
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (drawn / name).read_bytes(), name


def test_tokens_of_generate_are_decoded(folder: Path, model: AmusedModel, tmp_path: Path) -> None:
    result = model.generate(["a cat", "a dog"], steps=2)
    source = TokenSource(str(save_tokens(result.tokens, tmp_path / "t.npy")))
    run(Job(source.pictures, str(tmp_path / "out"), {}), DecodingBackend(load_model(folder), ""))
    for number in (0, 1):
        expected = (result.images[number] * 255).round().byte()
        assert torch.equal(pixels(tmp_path / "out" / f"000000{number}.png"), expected)
    save_tokens(torch.full((1, 8, 8), 64), tmp_path / "t.npy")
    summary = run(Job(source.pictures, str(tmp_path / "bad"), {}), DecodingBackend(load_model(folder), ""))
    assert summary.errors == 1 and "64 to 64; allowed are 0 to 63" in (tmp_path / "bad/errors.jsonl").read_text()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"image": "none.png"}, "No image at"),
    ({"image": 5}, "image is 5"),
    ({"image": "rows.txt"}, "cannot be read as an image"),
    ({"mask": "mask.png"}, "without an image"),
    ({"image": "start.png", "mask": "wide.png"}, "same size"),
    ({"image": "start.png", "width": 40}, "width is 40"),
    ({"width": 30}, "width is 30"),
    ({"steps": "many"}, "steps is 'many'"),
    ({"steps": 2.5}, "steps is 2.5"),
    ({"prompt": 5}, "prompt is 5"),
    ({"negative_prompt": 5}, "negative_prompt is 5"),
    ({"lora": "none.safetensors"}, "none.safetensors"),
    ({"lora": 3}, "lora is 3"),
    ({"schedule": "x"}, "schedule is 'x'"),
    ({"int8": "maybe"}, "int8 is 'maybe'"),
    ({"temperature": "hot"}, "temperature is 'hot'"),
    ({"prompt": ["a cat", "a dog"]}, "prompt is ['a cat', 'a dog']; allowed is a text."),
    ({"negative_prompt": ["a", "b"]}, "negative_prompt is ['a', 'b']; allowed is a text."),
]


def test_bad_rows_among_good_ones(place: Path, folder: Path, tmp_path: Path) -> None:
    (place / "rows.txt").write_text("no picture")
    Image.new("L", (40, 32)).save(place / "wide.png")
    good = {"prompt": "a cat", "steps": 1}
    made = [Row(0, "line 1", good), *(Row(n, f"line {n + 1}", {**good, **bad}) for n, (bad, _) in enumerate(BAD, 1))]
    made.append(Row(len(made), "", {**good, "seed": 1}))
    summary = run(make_job(tmp_path, place, made), ModelBackend(load_model(folder), str(place / "rows.jsonl")))
    assert (summary.drawn, summary.errors) == (2, len(BAD))
    lines = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    for line, (_, part) in zip(lines, BAD, strict=True):
        assert part in line["error"] and "\n" not in line["error"], line


def test_bad_types_in_parquet(place: Path, folder: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    bad = {"prompt": 5, "steps": "x", "n": {"k": 1}, "seed": 7, "image": "gone.png"}
    made = [Row(0, "", {"prompt": "a cat", "steps": 1, "n": 1}), Row(1, "", bad)]
    run(make_job(tmp_path, place, made, format="parquet"), ModelBackend(load_model(folder), ""))
    found = pyarrow.parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert [(row["status"], row["n"], row["prompt"]) for row in found] == [
        ("ok", "1", "a cat"),
        ("error", '{"k": 1}', "5"),
    ]
    assert (found[1]["seed"], found[1]["image"], found[1]["steps"]) == (7, "gone.png", None)
    (picture,) = pyarrow.parquet.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert picture["png"][:4] == b"\x89PNG" and picture["steps"] == 1 and picture["temperature"] == [2.0, 0.0]


def test_memory_decides_the_batch(model: AmusedModel, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from amused_core.batch import model_backend

    backend = ModelBackend(load_model(folder), "")
    (picture,) = expand([Row(0, "", {"prompt": "a cat"})], Expansion())
    sizes = []
    for free in (0, 2**21, 2**40):
        monkeypatch.setattr(backend, "free_memory", lambda free=free: free)
        sizes.append(backend.batch_size(picture))
    assert sizes[0] == 1 and 1 < sizes[1] < sizes[2] == model_backend.MAX_BATCH


def test_a_batch_too_large_for_the_memory_is_halved(place: Path, folder: Path, tmp_path: Path, drawn: Path) -> None:
    backend = ModelBackend(load_model(folder), str(place / "rows.jsonl"))
    draw_tokens = backend.model.draw_tokens

    def small_memory(request: Any) -> torch.Tensor:
        if request.batch > 1:
            raise torch.OutOfMemoryError("no memory")
        return draw_tokens(request)

    backend.model.draw_tokens = small_memory
    run(make_job(tmp_path, place, rows(), tokens="also"), backend)
    assert outcome(tmp_path) == outcome(drawn)
