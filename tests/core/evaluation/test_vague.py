"""Vague prompts: which answers are right, what counts as a mixture, and how evenly the answers are drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from amused_core import AmusedModel, load_model
from amused_core.cli import main
from amused_core.evaluation.coverage import coverage, sampling_error, total_variation
from amused_core.evaluation.difference import baseline, difference, differences
from amused_core.evaluation.mixture import mixed
from amused_core.evaluation.mixture_error import mixture_error
from amused_core.evaluation.questions import QUESTIONS, questions
from amused_core.evaluation.targets import decode_tokens, encode_scenes
from amused_core.evaluation.vague_task import gaps, judge_answers, measure
from amused_core.small_world.scenes.layout import Scene
from amused_core.small_world.scenes.splits import held_out
from tests.core.evaluation.scenes import generator


@pytest.fixture(scope="module")
def embedded() -> AmusedModel:
    """The model that ships, for its VQ-GAN."""
    return load_model()


def question(text: str):
    return next(one for one in QUESTIONS if one.text == text)


def test_total_variation() -> None:
    shares = torch.full((4,), 0.25)
    counts = torch.tensor([[5, 5, 5, 5], [20, 0, 0, 0], [10, 10, 0, 0]])
    assert total_variation(counts, shares).tolist() == [0, 0.75, 0.5]


@pytest.mark.parametrize(("answers", "count"), [(4, 10), (10, 30), (39, 50)])
def test_the_sampling_error_is_that_of_a_perfect_model(answers: int, count: int) -> None:
    """Its mean is half the sum of the mean absolute deviations of binomial shares, which is known exactly."""
    p = 1 / answers
    chances = [math.comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(count + 1)]
    deviation = sum(chance * abs(k / count - p) for k, chance in enumerate(chances))
    errors = sampling_error(torch.full((answers,), p, dtype=torch.float64), count, generator())
    assert abs(float(errors.mean()) - answers * deviation / 2) < 4 * float(errors.std()) / len(errors) ** 0.5


def test_coverage_tells_an_even_choice_from_a_narrow_one() -> None:
    shares = {name: 0.1 for name in "abcdefghij"}
    draws = torch.randint(10, (200,), generator=generator(3)).tolist()
    even, perfect = coverage([(["abcdefghij"[i] for i in draws], shares)])
    assert perfect["low"] < even["value"] < perfect["high"]
    narrow, same = coverage([(["a"] * 200, shares)])
    assert narrow["value"] == pytest.approx(0.9) and same == perfect
    assert coverage([(["z"] * 5, shares)])[0]["value"] == pytest.approx(1), "not an answer at all"


@pytest.mark.parametrize("one", QUESTIONS, ids=lambda one: one.text or "empty")
def test_answers_of_the_questions(one) -> None:
    assert one.choices and all(sum(shares.values()) == pytest.approx(1) for shares in one.choices.values())
    for seed in range(20):
        scene = one.answers.draw(generator(seed))
        turned = Scene(scene.things[::-1], scene.places[::-1], scene.background)
        assert one.answers.match(scene) == scene == one.answers.match(turned) and not held_out(scene)
    assert one.answers.match(Scene.pair("cat", "left of", "key", "black")) is None or one.text == ""
    assert one.answers.match(Scene.pair("cat", "left of", "cat", "yellow")) is None


def test_even_choices_have_even_shares() -> None:
    corners = question("a cat in a corner on a pink background").choices
    assert set(corners) == {"place"} and set(corners["place"].values()) == {0.25}
    backgrounds = question("a cat").choices["background"]
    assert len(backgrounds) == 9 and len(set(backgrounds.values())) == 1, "one of ten is held out"


def test_a_hand_mixed_picture_is_mixed_and_others_are_not(embedded: AmusedModel) -> None:
    one = question("a fruit on a white background")
    scenes = [Scene.single(name, "white") for name in ("apple", "banana", "kiwi")]
    tokens = encode_scenes(embedded, scenes)[2]
    halves = tokens[0].clone()
    halves[8:] = tokens[1, 8:]
    scattered = torch.where(torch.rand(16, 16, generator=generator()) < 0.5, tokens[1], tokens[2])
    noise = torch.randint(1024, (16, 16), generator=generator(1))
    noisy = torch.where(torch.rand(16, 16, generator=generator(2)) < 0.5, noise, tokens[0])
    grids = torch.stack([halves, scattered, *tokens, noisy, noise])
    result = mixed(embedded, decode_tokens(embedded, grids), grids, one.answers)
    assert result.tolist() == [True, True, False, False, False, False, False]


def test_the_same_thing_on_two_backgrounds_is_mixed(embedded: AmusedModel) -> None:
    scenes = [Scene.single("cat", colour) for colour in ("white", "blue")]
    tokens = encode_scenes(embedded, scenes)[2]
    halves = tokens[0].clone()
    halves[8:] = tokens[1, 8:]
    grids = torch.stack([halves, *tokens])
    result = mixed(embedded, decode_tokens(embedded, grids), grids, question("a cat").answers)
    assert result.tolist() == [True, False, False]


def test_valid_mixed_and_coverage_of_pictures(embedded: AmusedModel) -> None:
    one = question("a fruit on a white background")
    scenes = [Scene.single(name, "white") for name in ("apple", "banana", "kiwi", "cat")]
    tokens = encode_scenes(embedded, scenes)[2]
    halves = tokens[0].clone()
    halves[8:] = tokens[1, 8:]
    grids = torch.cat([tokens, halves[None]])
    asked = [one] * len(grids)
    findings = judge_answers(embedded, decode_tokens(embedded, grids), grids, asked)
    assert findings.valid.tolist() == [True, True, True, False, False], "a cat is no fruit"
    assert findings.mixed.tolist() == [False, False, False, False, True]
    row = measure(findings, asked, grids)
    assert row["valid"]["value"] == pytest.approx(0.6) and row["mixed"]["value"] == pytest.approx(0.2)
    assert row["coverage"]["value"] == pytest.approx(0.7), "three of ten fruits"
    assert row["distinct pictures"]["value"] == 5


def test_the_error_of_the_judge_is_small(embedded: AmusedModel) -> None:
    rows = mixture_error(embedded, 12)
    valid, mixtures = ({name: row[what]["value"] for name, row in rows.items()} for what in ("valid", "mixed"))
    assert valid.pop("one answer") >= 0.9 and max(valid.values()) <= 0.1
    assert mixtures["scattered tokens of two answers"] >= 0.7
    assert max(mixtures[name] for name in ("one answer", "random tokens")) == 0


def test_a_vague_cell(folder: Path, tmp_path: Path) -> None:
    options = ["--count", "15", "--steps", "1", "2", "--sets", "vague", "--tasks", "text"]
    assert main(["eval", "--model", str(folder), "--output", str(tmp_path), *options]) == 0
    cells = json.loads((tmp_path / "report.json").read_text())["cells"][2:]
    assert [cell["key"]["settings"]["steps"] for cell in cells] == [1, 2]
    assert {"valid", "mixed", "coverage", "coverage, perfect", "passes", "seconds"} <= set(cells[0]["row"])
    assert len(cells[0]["kinds"]) == len(QUESTIONS) and cells[0]["kinds"]["an animal"]["pictures"] == 1
    assert (tmp_path / "vague.png").exists() and "| vague | steps 2 |" in (tmp_path / "report.md").read_text()
    assert questions(15)[14] == QUESTIONS[1]


def test_gaps_leave_one_thing_open_and_give_the_rest() -> None:
    asked, scenes = gaps(30, seed=1)
    assert (asked, scenes) == gaps(30, seed=1)
    for one, scene in zip(asked, scenes, strict=True):
        assert one.answers.match(scene) and one.answers.placements == (scene.places,)
        assert one.answers.backgrounds == (scene.background,)
        assert [len(names) == 1 for names in one.answers.things] == [True] * (len(scene.things) - 1) + [False]


def test_a_cell_of_fillings(folder: Path, tmp_path: Path) -> None:
    options = ["--count", "4", "--steps", "1", "--sets", "vague", "--tasks", "inpainting"]
    assert main(["eval", "--model", str(folder), "--output", str(tmp_path), *options]) == 0
    cells = json.loads((tmp_path / "report.json").read_text())["cells"]
    assert [cell["key"]["part"] for cell in cells] == ["error", "vague", "inpainting", "vague"]
    assert {"valid", "mixed", "coverage"} < set(cells[3]["row"]) and len(cells[3]["kinds"]) == 4


def vague_result(order: str, passes: float, valid: list[bool]) -> dict:
    return {
        "key": {"task": "text", "part": "vague", "settings": {"order": order}},
        "full_settings": {"order": order, "cfg": 1.5},
        "row": {"passes": {"value": passes}, "valid": {"value": sum(valid) / len(valid)}},
        "pictures": [{"valid": one} for one in valid],
    }


def test_cells_are_compared_with_the_longest_run_of_diffusers_rule() -> None:
    usual, long = (vague_result("confidence", passes, [True, False] * 50) for passes in (4, 24))
    other = vague_result("halton", 24, [True, True] * 50)
    assert baseline([other, usual, long]) is long and baseline([other]) is None
    found = difference(other, long)
    assert found["value"] == pytest.approx(0.5) and 0.3 < found["low"] < 0.5 < found["high"] < 0.7
    assert difference(usual, long) == {"value": 0.0, "low": 0.0, "high": 0.0, "unit": "%"}
    rows = differences([usual, other, long])
    assert [row["settings"] for row in rows] == ["order halton", "order confidence", "order confidence"]
    assert rows[0]["valid, minus that of order confidence"] == found and differences([other, other]) == []
