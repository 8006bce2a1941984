"""`amused eval` on tiny models: sweeps, counted passes, whole runs and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from amused_core import AmusedError, AmusedModel
from amused_core.cli import main
from amused_core.evaluation import task
from amused_core.evaluation.cells import in_passes, label, sweep
from amused_core.evaluation.generation import generate_images
from amused_core.evaluation.image_tasks import holes
from amused_core.evaluation.plan import EvaluationPlan
from amused_core.evaluation.prompts import prompts
from amused_core.small_world.scenes.layout import CELL, Scene


def test_sweep_makes_every_combination_once() -> None:
    assert sweep({}) == [{}]
    assert sweep({"steps": [4, 8], "cfg": [1.0, 2.0]}) == [
        {"steps": 4, "cfg": 1.0}, {"steps": 4, "cfg": 2.0}, {"steps": 8, "cfg": 1.0}, {"steps": 8, "cfg": 2.0},
    ]  # fmt: skip
    both = sweep({"cfg_schedule": ["constant", "interval"], "cfg_interval": [[0, 0.5], [0.5, 1]]})
    assert len(both) == 3 and both[0] == {"cfg_schedule": "constant"}


def test_passes_become_steps() -> None:
    cells = in_passes(sweep({"cfg": [1.0, 1.5], "order": ["halton"]}), [2, 6])
    assert [(cell["steps"], cell["cfg"]) for cell in cells] == [(2, 1.0), (6, 1.0), (1, 1.5), (3, 1.5)]
    assert all(cell["order"] == "halton" for cell in cells)
    for cell, passes in (({}, 2), ({"cfg": 1.0, "steps": 2}, 2), ({"cfg": 2.0}, 3), ({"cfg": 1.0}, 0)):
        with pytest.raises(AmusedError, match="--passes"):
            in_passes([cell], [passes])


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({"steps": 3, "cfg": 1.0}, 3),
        ({"steps": 3, "cfg": 2.0}, 6),
        ({"steps": 4, "cfg": 2.0, "cfg_schedule": "interval", "cfg_interval": (0.0, 0.5)}, 6),
    ],
)
def test_passes_are_counted(model: AmusedModel, settings: dict, passes: int) -> None:
    drawn = generate_images(model, ["a cat", "a dog", "a bus"], settings, batch=2)
    assert drawn.passes == passes and not model.transformer._forward_hooks
    assert drawn.planes.shape == (3, 3, 128, 128)
    one = model.generate("a bus", seed=2, **settings)
    assert torch.equal(drawn.tokens[2:], one.tokens), "picture i has seed + i, in any batch"


def test_passes_are_counted_with_int8(model: AmusedModel) -> None:
    """The quantized copy 8-bit products is built once, before or while somebody counts."""
    settings = {"steps": 2, "cfg": 2.0, "int8": True}
    assert [generate_images(model, ["a cat"], settings).passes for _ in range(2)] == [4, 4]


def test_holes_are_whole_cells_inside_the_thing() -> None:
    large, small = holes([Scene.single("cat", "blue"), Scene.single("cat", "blue", "bottom right")])
    for mask, cells, first in ((large, 64, 32), (small, 16, 80)):
        coarse = mask.unfold(0, CELL, CELL).unfold(1, CELL, CELL).flatten(2)
        assert (coarse.amin(-1) == coarse.amax(-1)).all()
        assert coarse.amin(-1).sum() == cells and mask.nonzero().amin().item() == first


ALL = ["--count", "4", "--steps", "2", "--sets", "seen", "relations", "--batch", "3"]


def run(folder: Path, output: Path, *options: str) -> int:
    return main(["eval", "--model", str(folder), "--output", str(output), *options])


@pytest.mark.parametrize(
    ("options", "settings", "name"),
    [
        (["--int8"], [{"int8": True}], "int8"),
        (["--fast", "--no-int8"], [{"int8": False, "fast": True}], "no int8, fast"),
        (["--cfg", "1", "--int8"], [{"cfg": 1.0, "int8": True}], "cfg 1, int8"),
    ],
    ids=str,
)
def test_switches(
    options: list[str], settings: list[dict], name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[EvaluationPlan] = []
    monkeypatch.setattr("amused_core.evaluation.runner.evaluate", plans.append)
    run(folder, tmp_path, *options)
    assert plans[0].settings == settings and label(settings[0]) == name


def test_the_help_says_how_to_give_several_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    shown = " ".join(capsys.readouterr().out.split()).split("options:")[1]
    cfg, temperature, int8 = (
        shown.split(f"--{option} ")[1].split(" --")[0] for option in ("cfg X [X ...]", "temperature A B", "no-int8")
    )
    assert "(several values: one cell" in cfg and "(repeat for several values: one cell" in temperature
    assert "several values" not in int8


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
    assert "## Error of the judge" in table and "| relations | steps 2 |" in table
    for file in (output / "accuracy.png", *sorted((output / "pictures").glob("*.png"))):
        Image.open(file).verify()
    assert len(list((output / "pictures").glob("*.png"))) == 9

    monkeypatch.setattr(task, "generate_images", None)
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


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, tmp_path, "--count", "2", "--steps", "1", "--sets", "seen", "--tasks", "text") == 0
    assert 'needs matplotlib, which comes with `pip install "amused-image[train]"`' in capsys.readouterr().err
    assert (tmp_path / "report.json").exists() and not (tmp_path / "accuracy.png").exists()
