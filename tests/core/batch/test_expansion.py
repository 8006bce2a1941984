"""Rows become pictures: ids, seeds, grids, wildcards and names of files."""

from __future__ import annotations

import pytest

from amused_core import AmusedError
from amused_core.batch import columns
from amused_core.batch.names import LAYOUTS, find_layout, safe_name, template
from amused_core.batch.pictures import Expansion, expand
from amused_core.batch.rows import Row
from amused_core.batch.survey import survey
from amused_core.batch.wildcards import expand_wildcards
from tests.core.batch.fakes import table


def pictures(rows: list[Row], **options):
    return list(expand(rows, Expansion(**options)))


def row(**cells) -> Row:
    return Row(3, "line 4", cells)


def test_a_seed_comes_from_job_and_id_alone() -> None:
    (alone,) = pictures([Row(0, "", {"id": "x", "prompt": "a"})])
    others = pictures([*table(["b", "c"]), Row(2, "", {"id": "x", "prompt": "z"})])
    assert others[2].arguments["seed"] == alone.arguments["seed"]
    (other,) = pictures([Row(0, "", {"id": "x", "prompt": "a"})], seed=1)
    assert other.arguments["seed"] != alone.arguments["seed"]
    assert len({picture.arguments["seed"] for picture in pictures(table(["a"] * 100))}) == 100


def test_without_id_the_row_number() -> None:
    assert [picture.id for picture in pictures(table(["a", "b"]))] == ["0000000", "0000001"]
    assert [picture.file for picture in pictures([row(prompt="a")])] == ["0000003"]


def test_count_and_grid_multiply() -> None:
    made = pictures([row(prompt="a", id="x", seed=5, count=2, steps=1)], grid={"cfg": [2.0, 4.0], "steps": [6, 12]})
    assert [picture.id for picture in made] == [f"x-{n}" for n in range(8)]
    assert [picture.number for picture in made] == list(range(8))
    found = [(picture.arguments["cfg"], picture.arguments["steps"], picture.arguments["seed"]) for picture in made]
    assert found == [(cfg, steps, seed) for cfg in (2.0, 4.0) for steps in (6, 12) for seed in (5, 6)]


def test_an_empty_value_gives_nothing() -> None:
    rows = [Row(0, "", {"prompt": "a", "steps": 3})]
    expansion = Expansion(defaults=columns.defaults(["lora="]), grid=columns.grid(["lora=,x.safetensors", "steps=,8"]))
    found = [picture.arguments for picture in expand(rows, expansion)]
    assert [(one.get("lora"), one.get("steps")) for one in found] == [
        (None, None), (None, 8), ("x.safetensors", None), ("x.safetensors", 8)
    ]  # fmt: skip


def test_defaults_yield_to_the_row() -> None:
    made = pictures([row(prompt="a", steps=3), row(prompt="b")], defaults={"steps": 8, "cfg": 2.0})
    assert [(picture.arguments["steps"], picture.arguments["cfg"]) for picture in made] == [(3, 2.0), (8, 2.0)]


def test_other_columns_pass_through() -> None:
    (made,) = pictures([row(prompt="a", steps=3, tag=[1, {"k": 2}], seconds=3, status="ok")])
    assert made.columns == {"tag": [1, {"k": 2}]} and made.arguments.keys() == {"prompt", "steps", "seed"}


@pytest.mark.parametrize(
    ("cells", "part"),
    [
        ({"steps": 3}, "no prompt; its columns are steps"),
        ({}, "its columns are none"),
        ({"prompt": "a", "count": 0}, "count is 0"),
        ({"prompt": "a", "count": "x"}, "count is 'x'"),
        ({"prompt": "a", "seed": -1}, "seed is -1"),
        ({"prompt": "a", "seed": "x"}, "seed is 'x'"),
        ({"prompt": "a", "id": 1.5}, "id is 1.5"),
    ],
)
def test_bad_cells(cells: dict, part: str) -> None:
    good, bad, after = pictures([row(prompt="a", id="g"), row(**cells), row(prompt="b", id="h")])
    assert part in bad.error and (good.error, after.error) == (None, None)
    assert (bad.number, after.number) == (1, 2)


def test_wildcards() -> None:
    prompts = {expand_wildcards("a {red|green|blue} {cat|{big|small} dog} {x} {}", seed) for seed in range(200)}
    animals = ("cat", "big dog", "small dog")
    assert prompts == {f"a {colour} {animal} {{x}} {{}}" for colour in ("red", "green", "blue") for animal in animals}
    assert expand_wildcards("{a|b}{c|d}", 7) == expand_wildcards("{a|b}{c|d}", 7)
    assert expand_wildcards("{|a}", 0) in ("", "a")
    made = pictures([row(prompt="a {red|green} cat", negative_prompt="{x|y}", count=40)])
    assert {picture.arguments["prompt"] for picture in made} == {"a red cat", "a green cat"}
    assert {picture.arguments["negative_prompt"] for picture in made} == {"x", "y"}


def test_settings_of_the_command() -> None:
    assert columns.defaults(["steps=8", "temperature=2:0.5", "prompt=a=b", "int8=yes"]) == {
        "steps": 8, "temperature": [2.0, 0.5], "prompt": "a=b", "int8": True,
    }  # fmt: skip
    assert columns.grid(["cfg=2,4.5", "schedule=linear, cosine"]) == {"cfg": [2, 4.5], "schedule": ["linear", "cosine"]}
    for items, part in ((["steps"], "NAME=VALUE"), (["stepz=1"], "'stepz'"), (["steps=1", "steps=2"], "twice")):
        with pytest.raises(AmusedError, match=part):
            columns.defaults(items)


NAMES = ["a", "a.b", "../x", "a/b", "a\\b", "", ".", "..", " a", "a ", "a.", "con", "NUL.txt", "a:b", "a*?", "é苹", "%"]
NAMES += ["\n", "x" * 500, "x" * 501]


def test_names_are_safe_and_differ() -> None:
    safe = [safe_name(name) for name in NAMES]
    assert len({name.casefold() for name in safe}) == len(NAMES)
    for name in safe:
        assert name and not set(name) & set('/\\:*?"<>|\n') and len(name.encode()) <= 200
        assert name[0] not in ". " and name[-1] not in ". "
        assert name.partition(".")[0].lower() not in ("con", "nul")
    assert (safe[0], safe[1], safe[15]) == ("a", "a.b", "é苹")


def test_templates() -> None:
    cells = {"prompt": "a", "id": "x/y", "style": "../z", "seed": 4, "count": 2}
    made = pictures([row(**cells)], layout=template("{style}/{row}/{id}_{copy}_{number}_{seed}"))
    assert made[1].file == "%2E.%2Fz/0000003/x%2Fy-1_1_0000001_5"
    (bad,) = pictures([row(prompt="a")], layout=template("{style}"))
    assert "'style'" in bad.error
    for text in ("../{id}", "/{id}", "{id", "a//b", "c:{id}", "{id}\\x"):
        with pytest.raises(AmusedError, match="name"):
            template(text)


def test_names_that_are_too_long_are_errors_of_their_rows() -> None:
    rows = [Row(n, "", {"prompt": "a", "id": str(n), "style": "s" * length}) for n, length in enumerate((150, 120))]
    bad, good = expand(rows, Expansion(layout=template("{style}-{style}")))
    assert "is too long; allowed are 250 bytes." in (bad.error or "") and good.error is None


def test_layouts() -> None:
    rows = [
        Row(n, "", {"prompt": p, "tag": "t", "style": s})
        for n, (p, s) in enumerate([("a", "anime"), ("b", "photo"), ("c", "photo")])
    ]
    geneval = pictures(rows, layout=LAYOUTS["geneval"])
    assert [picture.file for picture in geneval][3:5] == ["00000/samples/0003", "00001/samples/0000"]
    assert geneval[4].sidecar == ("00001/metadata.jsonl", '{"prompt": "b", "tag": "t", "style": "photo"}')
    hpsv2 = pictures(rows, layout=LAYOUTS["hpsv2"])
    assert [picture.file for picture in hpsv2] == ["anime/00000", "photo/00000", "photo/00001"]
    assert LAYOUTS["hpsv2"].ending == ".jpg"
    assert "'style'" in pictures(table(["a"]), layout=LAYOUTS["hpsv2"])[0].error
    for arguments in (("genevol", None, "files"), ("geneval", "{id}", "files"), ("geneval", None, "parquet")):
        with pytest.raises(AmusedError, match="--layout"):
            find_layout(*arguments)


def test_repeated_ids_name_both_lines() -> None:
    rows = [Row(n, f"line {n + 2}", {"prompt": "p", "id": name}) for n, name in enumerate(["a", "b", "c", "b"])]
    with pytest.raises(AmusedError, match=r"line 3 and line 5 .* same id: 'b' and 'b'"):
        survey(lambda: expand(rows, Expansion()))
    rows = [Row(0, "line 2", {"prompt": "p", "id": "a", "count": 2}), Row(1, "line 3", {"prompt": "p", "id": "a-1"})]
    with pytest.raises(AmusedError, match=r"line 2 and line 3 .* 'a-1' and 'a-1'"):
        survey(lambda: expand(rows, Expansion()))
    rows = [Row(n, f"line {n + 2}", {"prompt": "p", "id": name}) for n, name in enumerate(["Ab", "aB"])]
    with pytest.raises(AmusedError, match="same file: 'Ab' and 'aB'"):
        survey(lambda: expand(rows, Expansion()))


def test_a_survey_tells_jobs_apart() -> None:
    def digest(rows: list[Row], **options) -> str:
        return survey(lambda: expand(rows, Expansion(**options))).digest

    first = digest(table(["a", "b"]))
    assert first == digest(table(["a", "b"]))
    others = [digest(table(["b", "a"])), digest(table(["a", "b"]), seed=1), digest(table(["a", "b"], steps=3))]
    others += [digest(table(["a", "b"]), defaults={"cfg": 2.0}), digest(table(["a", "b"]), layout=template("x{id}"))]
    assert len({first, *others}) == 6
    found = survey(lambda: expand([*table(["a", "b"], x=1, count=3), Row(2, "", {}, "bad.")], Expansion()))
    assert (found.rows, found.pictures, found.columns) == (3, 7, ("x",))
