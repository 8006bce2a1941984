"""Tables of every kind give the same rows; what cannot be read is one bad row with a place and a sentence."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from amused_core import AmusedError
from amused_core.batch.rows import Row, read_rows

ROWS = [
    {"id": "a", "prompt": 'one "two", three\nfour', "steps": 8, "temperature": [2.0, 0.5], "int8": True, "tag": "x"},
    {"id": "ü", "prompt": "苹果 🍎", "cfg": 2.5, "seed": 2**64 - 1, "tag": "y"},
]


def read(path: Path) -> list[Row]:
    return list(read_rows(str(path)))


def columns(path: Path) -> list[dict]:
    rows = read(path)
    assert [row.number for row in rows] == list(range(len(rows)))
    assert not [row.error for row in rows if row.error]
    return [dict(row.columns) for row in rows]


def write_table(path: Path, delimiter: str, encoding: str) -> Path:
    lines = [
        ["id", "prompt", "steps", "temperature", "int8", "cfg", "seed", "tag"],
        ["a", '"one ""two"", three\nfour"', "8", "2:0.5", "true", "", "", "x"],
        ["ü", "苹果 🍎", "", "", "", "2.5", str(2**64 - 1), "y"],
    ]
    path.write_bytes("\r\n".join(delimiter.join(line) for line in lines).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("ending", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_tables(tmp_path: Path, ending: str, delimiter: str, encoding: str) -> None:
    assert columns(write_table(tmp_path / f"t.{ending}", delimiter, encoding)) == ROWS


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_json_lines(tmp_path: Path, start: bytes) -> None:
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    (tmp_path / "t.jsonl").write_bytes(start + lines.encode())
    assert columns(tmp_path / "t.jsonl") == ROWS


def test_parquet(tmp_path: Path) -> None:
    """Gaps in a column of whole numbers make it one of fractions."""
    table = pyarrow.table({
        "id": [1, 2], "prompt": ["a", "b"], "steps": [8.0, float("nan")], "temperature": [[2.0, 0.5], None],
        "other": [None, {"k": [1]}],
    })  # fmt: skip
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    assert columns(tmp_path / "t.parquet") == [
        {"id": 1, "prompt": "a", "steps": 8, "temperature": [2.0, 0.5]},
        {"id": 2, "prompt": "b", "other": {"k": [1]}},
    ]


def test_prompts(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfa cat\r\n\n  a dog \n")
    assert columns(tmp_path / "t.txt") == [{"prompt": "a cat"}, {"prompt": "a dog"}]
    assert [row.place for row in read(tmp_path / "t.txt")] == ["line 1", "line 3"]


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv", "t.txt"])
def test_no_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert read(tmp_path / name) == []


def test_empty_cells_give_nothing_in_every_format(tmp_path: Path) -> None:
    """But for prompts, which may be empty texts."""
    import pyarrow
    import pyarrow.parquet

    cells = {"id": "", "prompt": "a", "image": "", "seed": "", "lora": "", "steps": "", "note": ""}
    pyarrow.parquet.write_table(pyarrow.table({name: [text] for name, text in cells.items()}), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text(json.dumps(cells))
    for name in ("t.parquet", "t.jsonl"):
        assert columns(tmp_path / name) == [{"prompt": "a", "note": ""}]
    (tmp_path / "t.jsonl").write_text('{"prompt": "", "negative_prompt": ""}')
    assert columns(tmp_path / "t.jsonl") == [{"prompt": "", "negative_prompt": ""}]


def test_empty_columns_and_lines_of_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\n,,,\nid,prompt,,\nx,a cat,,\n\ny,a dog,,note\n")
    rows = read(tmp_path / "t.csv")
    assert dict(rows[0].columns) == {"id": "x", "prompt": "a cat"}
    assert rows[1].place == "line 6" and "4 cells but the table has 2 columns" in (rows[1].error or "")


def test_values_that_json_does_not_know(tmp_path: Path) -> None:
    """Hugging Face's tables hold images as structures of bytes."""
    import pyarrow
    import pyarrow.parquet

    picture = {"bytes": b"123", "path": "a.png"}
    table = pyarrow.table({"prompt": ["a"], "picture": [picture], "when": [[date(2026, 1, 2)]]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    plain = {"picture": {"bytes": "3 bytes", "path": "a.png"}, "when": ["2026-01-02"]}
    assert columns(tmp_path / "t.parquet") == [{"prompt": "a", **plain}]


def test_bad_lines_of_json(tmp_path: Path) -> None:
    lines = [
        b'{"prompt": "a"}',
        b"{",
        b"[1]",
        b'{"prompt": "\xff"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "b"}',
        b'{"prompt": "c", "tags": [{"k": "\\ud800"}]}',
    ]
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    rows = read(tmp_path / "t.jsonl")
    assert [row.number for row in rows if row.error is None] == [0, 5]
    places, errors = [row.place for row in rows], [row.error or "" for row in rows]
    assert places == [f"line {n}" for n in range(1, 8)]
    assert "not JSON" in errors[1] and "must be an object" in errors[2]
    assert "not UTF-8" in errors[3] and "not UTF-8" in errors[4] and "not UTF-8" in errors[6]


def test_bad_lines_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'prompt,steps\na,1\nb,2,3\n"c"d,4\ne\n,\nf,\xff\n"open,5\n')
    rows = read(tmp_path / "t.csv")
    assert [dict(row.columns) for row in rows if row.error is None] == [{"prompt": "a", "steps": 1}, {"prompt": "e"}]
    bad = [(row.place, row.error) for row in rows if row.error]
    assert [place for place, _ in bad] == ["line 3", "line 4", "line 7", "line 8"]
    assert "3 cells but the table has 2 columns" in bad[0][1] and "not UTF-8" in bad[2][1]
    assert all(error.endswith(".") and "\n" not in error for _, error in bad)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("t.xlsx", b"", "'.jsonl"),
        ("t.csv", b"a,b,a\n1,2,3\n", "two columns named 'a'"),
        ("t.parquet", b"no", "as Parquet"),
        ("none.csv", None, "No file at"),
    ],
)
def test_refused(tmp_path: Path, name: str, content: bytes | None, part: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AmusedError) as caught:
        read(tmp_path / name)
    assert part.strip("'") in str(caught.value)


def test_a_url() -> None:
    import fsspec

    with fsspec.open("memory://tables/t.csv", "wb") as file:
        file.write(b"prompt\na cat\n")
    assert [dict(row.columns) for row in read_rows("memory://tables/t.csv")] == [{"prompt": "a cat"}]
