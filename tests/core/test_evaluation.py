"""`amused eval`: the judge, the prompt sets, the intervals, and whole runs on tiny models."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from amused_core import AmusedModel
from amused_core.cli import main
from amused_core.evaluation import runner, wordings
from amused_core.evaluation.calibration import blurred, noisy
from amused_core.evaluation.cells import sweep
from amused_core.evaluation.drawing import draw as draw_with
from amused_core.evaluation.features import perceptual, summary
from amused_core.evaluation.judge import read
from amused_core.evaluation.metrics import bootstrap, code_entropy, different_tokens, distinct, frechet, wilson
from amused_core.evaluation.prompts import SETS, prompts
from amused_core.evaluation.tasks import holes
from amused_core.evaluation.text import MARGIN, right
from amused_core.evaluation.verdict import verdict
from amused_core.evaluation.wanted import Wanted
from amused_core.small_world.scenes import captions
from amused_core.small_world.scenes.layout import CELL, CORNERS, RELATIONS, Scene
from amused_core.small_world.scenes.splits import held_out
from amused_core.small_world.scenes.sprites import draw
from amused_core.small_world.scenes.things import BACKGROUNDS, THINGS

COLOURS = list(BACKGROUNDS)
NAMES = [thing.name for thing in THINGS]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_thing() -> list[Scene]:
    """Every thing large and in a corner, and on both sides of pairs, the backgrounds and places taking turns."""
    scenes = []
    for number, name in enumerate(NAMES):
        colour = COLOURS[number % 10]
        scenes.append(Scene.single(name, colour))
        scenes.append(Scene.single(name, COLOURS[(number // 4) % 10], CORNERS[number % 4]))
        scenes.append(Scene.pair(name, list(RELATIONS)[number % 4], NAMES[(number + 57) % len(NAMES)], colour))
    return scenes


def as_wanted(scenes: list[Scene], ceiling: float) -> Wanted:
    """What scenes want, of a VQ with one PSNR for all."""
    planes = draw(scenes)
    tokens = torch.zeros(len(scenes), 16, 16, dtype=torch.long)
    return Wanted(scenes, planes.movedim(1, -1), planes, tokens, planes, torch.full((len(scenes),), ceiling))


@pytest.mark.parametrize("damage", [blurred, lambda planes: noisy(planes, 0.1, generator())], ids=["blur", "noise"])
def test_judge_reads_every_thing_on_every_background_in_every_place(damage) -> None:
    scenes = every_thing()
    planes = damage(draw(scenes))
    reading = read(planes)
    found = verdict(reading, scenes)
    wrong = [f"{scenes[i]}: {reading.words(i)}" for i in (~found.all).nonzero()[:, 0].tolist()]
    assert not wrong


CASES = {
    "another thing": (Scene.single("cat", "blue"), Scene.single("dog", "blue"), {"background", "place"}),
    "another background": (Scene.single("cat", "blue"), Scene.single("cat", "green"), {"object", "place", "relation"}),
    "another place": (Scene.single("cat", "blue"), Scene.single("cat", "blue", "top left"), {"object", "background"}),
    "another corner": (
        Scene.single("cat", "blue", "top right"),
        Scene.single("cat", "blue", "top left"),
        {"object", "background"},
    ),
    "a swapped pair": (
        Scene.pair("cat", "left of", "dog", "pink"),
        Scene.pair("dog", "left of", "cat", "pink"),
        {"object", "background", "place"},
    ),
    "above instead of left": (
        Scene.pair("cat", "left of", "dog", "pink"),
        Scene.pair("cat", "above", "dog", "pink"),
        {"object", "background"},
    ),
    "one thing too many": (Scene.single("cat", "red"), Scene.pair("cat", "above", "dog", "red"), {"background"}),
    "the same in other words": (
        Scene.pair("cat", "left of", "dog", "pink"),
        Scene.pair("dog", "right of", "cat", "pink"),
        {"object", "background", "place", "relation", "all"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_judge_sees_what_is_wrong(case: str) -> None:
    shown, asked, still_right = CASES[case]
    found = verdict(read(draw([shown])), [asked])
    names = ("object", "background", "place", "relation", "all")
    assert {name for name in names if getattr(found, name).item()} == still_right


def test_nothing_is_seen_in_an_empty_or_a_grey_noisy_picture() -> None:
    flat = torch.tensor(BACKGROUNDS["blue"])[:, None, None].expand(3, 128, 128) / 255
    noise = torch.rand(3, 128, 128, generator=generator())
    half = draw([Scene.pair("cat", "left of", "dog", "blue")])[0]
    half[:, :, 64:] = flat[:, :, 64:]
    reading = read(torch.stack([flat, noise, half]))
    assert reading.background.tolist() == [7, -1, 7]
    assert reading.words(0) == "nothing whole; blue"
    assert reading.words(1).endswith("no clear background")
    assert reading.words(2) == "cat left, nothing right; blue"


def test_strict_measure_refuses_speckles_and_half_another_thing() -> None:
    scenes = [Scene.single(name, COLOURS[number % 10]) for number, name in enumerate(NAMES[:60])]
    others = [Scene.single(NAMES[number + 80], COLOURS[number % 10]) for number in range(60)]
    target = as_wanted(scenes, ceiling=24.0)
    cells = torch.rand(60, 1, 16, 16, generator=generator()).repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)
    speckled = torch.where(
        cells < 0.3, target.planes[torch.randperm(60, generator=generator(1))].roll(CELL, 2), draw(scenes)
    )
    halves = torch.where(cells < 0.5, draw(others), draw(scenes))
    good = noisy(target.planes, 0.05, generator())
    strict = {}
    for name, planes in {"good": good, "speckled": speckled, "halves": halves}.items():
        found = verdict(read(planes), scenes)
        strict[name] = right(found, planes, target).float().mean().item()
        if name == "speckled":
            assert found.object.float().mean() > 0.5, "the nearest reference alone is too lenient"
    assert strict["good"] == 1 and strict["speckled"] < 0.05 and strict["halves"] < 0.05, strict
    assert MARGIN == 3.0


def test_intervals() -> None:
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-3)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-3)
    assert wilson(88, 100) == pytest.approx((0.8019, 0.9300), abs=1e-3)
    assert wilson(500, 500) == pytest.approx((0.9924, 1), abs=1e-3)
    assert wilson(0, 0) == (0, 1)
    values = torch.randn(400, generator=generator())
    mean = bootstrap(values, "dB", "mean")
    assert mean == bootstrap(values, "dB", "mean")
    half = 1.96 * values.std().item() / 20
    assert mean["high"] - mean["low"] == pytest.approx(2 * half, rel=0.15)
    assert bootstrap(torch.tensor([1.0, 2, 9]), "")["value"] == 2
    assert bootstrap(torch.tensor([4.0]), "") == {"value": 4, "low": 4, "high": 4, "unit": ""}


def test_frechet_distance() -> None:
    vectors = torch.randn(200, 8, generator=generator())
    assert frechet(vectors, vectors) < 1e-6
    shifts = [frechet(vectors, vectors + shift) for shift in (0.1, 0.5, 2.0)]
    assert shifts == pytest.approx([8 * 0.01, 8 * 0.25, 8 * 4.0], rel=1e-4)
    scaled = vectors - vectors.mean(0)
    assert frechet(scaled, 3 * scaled) == pytest.approx(4 * scaled.var(0).sum().item(), rel=1e-4)
    planes = draw([prompt.scene for prompt in prompts("seen", 80)])
    steps = [frechet(summary(planes), summary(noisy(planes, sigma, generator()))) for sigma in (0.0, 0.1, 0.3)]
    assert steps[0] < 1e-4 < steps[1] < steps[2]


def test_fixed_features_are_the_same_everywhere_and_grow_with_damage() -> None:
    planes = draw([Scene.single("cat", "blue"), Scene.single("bus", "pink")])
    assert perceptual(planes, planes).abs().max() == 0
    little, much = (perceptual(noisy(planes, sigma, generator()), planes) for sigma in (0.05, 0.3))
    assert (0 < little).all() and (little < much).all()
    state = torch.random.get_rng_state()
    summary(planes)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_entropy_and_diversity() -> None:
    assert code_entropy(torch.zeros(3, 4, 4, dtype=torch.long), 8) == 0
    assert code_entropy(torch.arange(8).repeat(5), 8) == pytest.approx(3)
    grids = torch.stack([torch.zeros(2, 2), torch.ones(2, 2), torch.zeros(2, 2)]).long()
    assert distinct(grids) == 2 and different_tokens(grids) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", SETS)
def test_prompt_sets_are_seeded_and_even(name: str) -> None:
    asked = prompts(name, 344)
    assert asked == prompts(name, 344) and asked[:50] == prompts(name, 50)
    assert [p.text for p in asked] != [p.text for p in prompts(name, 344, seed=1)]
    firsts = Counter(prompt.scene.things[0] for prompt in asked if len(prompt.scene.things) == 1 or name == "relations")
    backgrounds = Counter(prompt.scene.background for prompt in asked)
    assert set(backgrounds) == set(COLOURS) and max(backgrounds.values()) - min(backgrounds.values()) <= 12
    assert len(firsts) >= 170 and max(firsts.values()) <= 3


def test_prompt_sets_hold_what_they_say() -> None:
    seen, combinations, relations = (prompts(name, 172) for name in ("seen", "combinations", "relations"))
    assert not any(held_out(prompt.scene) for prompt in [*seen, *prompts("wordings", 172)])
    assert all(held_out(prompt.scene) for prompt in combinations)
    assert not {p.text for p in seen} & {p.text for p in combinations}
    assert Counter(p.kind for p in seen) == Counter(p.kind for p in combinations)
    assert all(held_out(p.scene) == (p.kind == "new pair") for p in relations)
    for prompt in relations:
        assert not any(held_out(Scene.single(thing, prompt.scene.background)) for thing in prompt.scene.things)
    assert Counter(p.kind for p in relations) == {"seen pair": 86, "new pair": 86}
    assert {captions.relation(p.scene) for p in relations} == set(RELATIONS)


def test_wordings_are_not_those_of_training() -> None:
    """Every template differs from all of training's, whatever stands for thing, colour and corner."""

    def bare(template: str) -> str:
        return template.format(o="#", p="#", b="#", c="#")

    trained = {bare(one) for one in captions._ON_BACKGROUND}
    for inner in (*captions._IN_CORNER, *(one for several in captions._RELATED.values() for one in several)):
        trained |= {bare(one).replace("#", bare(inner), 1) for one in captions._ON_BACKGROUND}
    trained |= {f"{prefix} {one}" for prefix in captions._PREFIXES for one in trained}
    own = [*wordings.LARGE, *wordings.CORNER, *(one for several in wordings.PAIR.values() for one in several)]
    assert len(own) == len(set(own)) >= 24
    for template in own:
        assert bare(template) not in trained
    asked = prompts("wordings", 300)
    plain = {captions.plain_caption(prompt.scene) for prompt in asked}
    assert not plain & {prompt.text for prompt in asked}
    assert {prompt.kind.split(", ")[1] for prompt in asked} == set(wordings.WAYS)
    assert any(prompt.text.isupper() for prompt in asked)


def test_unknown_set_and_count() -> None:
    with pytest.raises(ValueError, match="'far'; allowed are seen, combinations"):
        prompts("far", 3)
    with pytest.raises(ValueError, match="is 0; it must be at least 1"):
        prompts("seen", 0)


def test_sweep_makes_every_combination_once() -> None:
    assert sweep({}) == [{}]
    assert sweep({"steps": [4, 8], "cfg": [1.0, 2.0]}) == [
        {"steps": 4, "cfg": 1.0}, {"steps": 4, "cfg": 2.0}, {"steps": 8, "cfg": 1.0}, {"steps": 8, "cfg": 2.0},
    ]  # fmt: skip
    both = sweep({"cfg_schedule": ["constant", "interval"], "cfg_interval": [[0, 0.5], [0.5, 1]]})
    assert len(both) == 3 and both[0] == {"cfg_schedule": "constant"}


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({"steps": 3, "cfg": 1.0}, 3),
        ({"steps": 3, "cfg": 2.0}, 6),
        ({"steps": 4, "cfg": 2.0, "cfg_schedule": "interval", "cfg_interval": (0.0, 0.5)}, 6),
    ],
)
def test_passes_are_counted(model: AmusedModel, settings: dict, passes: int) -> None:
    drawn = draw_with(model, ["a cat", "a dog", "a bus"], settings, batch=2)
    assert drawn.passes == passes and not model.transformer._forward_hooks
    assert drawn.planes.shape == (3, 3, 128, 128)
    one = model.generate("a bus", seed=2, **settings)
    assert torch.equal(drawn.tokens[2:], one.tokens), "picture i has seed + i, in any batch"


def test_passes_are_counted_with_int8(model: AmusedModel) -> None:
    """The twin with 8-bit products is built once, before or while somebody counts."""
    settings = {"steps": 2, "cfg": 2.0, "int8": True}
    assert [draw_with(model, ["a cat"], settings).passes for _ in range(2)] == [4, 4]


def test_holes_are_whole_cells_inside_the_thing() -> None:
    large, small = holes([Scene.single("cat", "blue"), Scene.single("cat", "blue", "bottom right")])
    for mask, cells, first in ((large, 64, 32), (small, 16, 80)):
        coarse = mask.unfold(0, CELL, CELL).unfold(1, CELL, CELL).flatten(2)
        assert (coarse.amin(-1) == coarse.amax(-1)).all()
        assert coarse.amin(-1).sum() == cells and mask.nonzero().amin().item() == first


ALL = ["--count", "4", "--steps", "2", "--sets", "seen", "relations", "--batch", "3"]


def run(folder: Path, output: Path, *options: str) -> int:
    return main(["eval", "--model", str(folder), "--output", str(output), *options])


def test_a_whole_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    output = tmp_path / "out"
    assert run(folder, output, *ALL) == 0
    first = capsys.readouterr()
    assert first.out.strip().endswith("report.json") and "measured before" not in first.out
    assert "text seen, steps 2: 4/4" in first.err
    report = json.loads((output / "report.json").read_text())
    keys = [(cell["key"]["task"], cell["key"]["part"]) for cell in report["cells"]]
    assert len(keys) == 12 and keys[0] == ("judge", "error")
    rows = {key: cell.get("row") for key, cell in zip(keys, report["cells"], strict=True)}
    assert rows["inpainting", "inpainting"]["kept tokens equal"]["value"] == 1
    assert (
        rows["variation", "strength 0.2"]["same tokens"]["value"]
        >= rows["variation", "strength 1"]["same tokens"]["value"]
    )
    assert rows["text", "seen"]["passes"]["value"] == 4, "the tiny model's own guidance is above 1"
    assert set(rows["text", "relations"]) > {"right", "object", "background", "place", "relation", "Frechet", "entropy"}
    cell = json.loads(next((output / "cells").glob("text-seen-*.json")).read_text())
    assert len(cell["pictures"]) == 4 and cell["pictures"][1]["prompt"] == prompts("seen", 4)[1].text
    table = (output / "report.md").read_text()
    assert "## The judge's own error" in table and "| relations | steps 2 |" in table
    for file in (output / "accuracy.png", *sorted((output / "pictures").glob("*.png"))):
        Image.open(file).verify()
    assert len(list((output / "pictures").glob("*.png"))) == 9

    monkeypatch.setattr(runner, "draw", None)
    next((output / "cells").glob("reconstruction-*.json")).write_text("{")
    assert run(folder, output, *ALL) == 0, "only what is missing or damaged is measured again"
    assert capsys.readouterr().out.count("(measured before)") == 11
    again = json.loads((output / "report.json").read_text())
    assert again["cells"] == report["cells"]


def test_the_embedded_model_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--count", "4", "--steps", "4", "--cfg", "1", "1.5", "--sets", "seen"]
    assert main(["eval", "--output", str(tmp_path), *options]) == 0
    cells = json.loads((tmp_path / "report.json").read_text())["cells"]
    assert [cell["key"]["settings"] for cell in cells[1:]] == [{"steps": 4, "cfg": 1.0}, {"steps": 4, "cfg": 1.5}]
    assert [cell["row"]["passes"]["value"] for cell in cells[1:]] == [4, 8]
    assert cells[0]["rows"]["after the VQ"]["object"]["value"] == 1
    assert cells[0]["rows"]["another thing"]["right"]["value"] == 0


def test_diffusers_beside_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--count", "5", "--steps", "3", "--cfg", "3", "--sets", "seen", "--tasks", "text", "--batch", "2"]
    assert run(folder, tmp_path, *options, "--schedule", "linear", "--reference", "diffusers") == 0
    cell = json.loads((tmp_path / "report.json").read_text())["cells"][1]
    assert cell["reference"]["equal_tokens"] == 1
    assert cell["reference"]["row"]["passes"]["value"] == cell["row"]["passes"]["value"] == 6
    assert cell["reference"]["row"]["PSNR"] == cell["row"]["PSNR"]
    assert "100 % of the tokens equal" in (tmp_path / "report.md").read_text()


REFUSED = {
    "a set": (["--sets", "far"], "'far'; allowed are seen, combinations, wordings, relations"),
    "a task": (["--tasks", "speed"], "'speed'; allowed are text, reconstruction"),
    "a count": (["--count", "0"], "--count is 0; allowed are whole numbers from 1"),
    "a batch": (["--batch", "-1"], "--batch is -1"),
    "a seed": (["--seed", "-1"], "--seed is -1; allowed are whole numbers from 0"),
    "steps": (["--steps", "4", "0"], "steps is 0"),
    "guidance": (["--cfg", "nan"], "cfg is nan"),
    "a schedule": (["--schedule", "square"], "'square'"),
    "top-p": (["--top-p", "2"], "top_p is 2"),
    "a reference": (["--reference", "muse"], "--reference is 'muse'; allowed is 'diffusers'"),
    "what diffusers lacks": (["--reference", "diffusers", "--top-k", "3"], "no top_k 3; allowed is 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(case: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, part = REFUSED[case]
    assert run(folder, tmp_path / "out", *options) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("amused: ") and captured.err.count("\n") == 1
    assert part in captured.err and not (tmp_path / "out").exists()


def test_without_matplotlib(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(folder, tmp_path, "--count", "2", "--steps", "1", "--sets", "seen", "--tasks", "text") == 0
    assert 'needs matplotlib, which comes with `pip install "amused-image[train]"`' in capsys.readouterr().err
    assert (tmp_path / "report.json").exists() and not (tmp_path / "accuracy.png").exists()
