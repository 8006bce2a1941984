"""`amused bench` on tiny models: what it reports. No time is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from amused_core import AmusedModel
from amused_core.bench import contenders
from amused_core.bench.laps import PARTS, Laps
from tests.core.bench.runs import AGAIN, report, run


@pytest.fixture(scope="module")
def result(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the numbers of a whole run: two repeats, a batch of two, one thread."""
    output = tmp_path_factory.mktemp("bench")
    before = torch.get_num_threads()
    assert run(folder, output, "--repeats", "2", "--batch", "2", "--threads", "1") == 0
    assert torch.get_num_threads() == before
    return output, report(output)


def test_the_report(result: tuple[Path, dict[str, Any]]) -> None:
    output, found = result
    assert set(found) == {
        "machine", "model", "settings", "gemm", "sides", "flop", "first_run", "equal", "promised", "high_water"
    }  # fmt: skip
    assert list(found["sides"]) == ["diffusers", "pack", AGAIN]
    for side in found["sides"].values():
        assert set(side["parts"]) == set(PARTS) and len(side["totals"]) == 2 and not side["composed"]
        assert all(seconds >= 0 for spent in side["parts"].values() for seconds in spent)
    assert found["first_run"]["cpu"] > 0
    assert found["machine"]["threads"] == 1 and found["machine"]["torch"] == torch.__version__
    assert found["settings"]["batch"] == 2 and found["settings"]["steps"] == 3
    # The 256 shape's trunk: 2 prompts x 2 pictures x 8x8 tokens, width 32, gated width 2 x 64.
    shapes = [(row["m"], row["k"], row["n"]) for row in found["gemm"]["fp32"]["shapes"]]
    assert shapes == [(256, 32, 32), (256, 32, 128), (256, 64, 32)]
    assert found["flop"]["step"] > 2 * 256 * 32 * 32 and found["flop"]["decode"] > 0
    text = (output / "report.md").read_text()
    assert "another seed" in text and "composed" not in text and "Tokens equal to diffusers': 100 %" in text
    assert (output / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_pictures_as_diffusers(result: tuple[Path, dict[str, Any]]) -> None:
    _, found = result
    assert found["promised"]
    assert found["equal"]["tokens"] == 1 and found["equal"]["runs"] == 2
    assert found["equal"]["pictures"] == 4 and found["equal"]["levels"] <= 1


def test_another_seed_needs_no_text(result: tuple[Path, dict[str, Any]]) -> None:
    sides = result[1]["sides"]
    assert sides[AGAIN]["parts"]["text"] == [0, 0]
    assert min(sides["pack"]["parts"]["text"]) > 0 and min(sides["diffusers"]["parts"]["text"]) > 0


def test_composed_of_fewer_steps(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path, "--repeats", "1", "--measured-steps", "2") == 0
    for side in report(tmp_path)["sides"].values():
        spent = {name: value[0] for name, value in side["parts"].items()}
        want = sum(spent.values()) + spent["step"] + 2 * spent["sampler"]
        assert side["composed"] and side["total"][0] == pytest.approx(want)
    assert "totals **composed**" in (tmp_path / "report.md").read_text()


def test_one_measured_step_stands_for_all(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path, "--repeats", "1", "--measured-steps", "1") == 0
    found = report(tmp_path)["sides"]
    for name in ("diffusers", "pack"):
        assert found[name]["parts"]["step"] == found[name]["parts"]["first step"]
    # Another seed's first step may be kept from before: it says nothing of the others.
    assert found[AGAIN]["parts"]["step"] == found["pack"]["parts"]["first step"]


@pytest.mark.parametrize("side", ["pack", "diffusers"])
def test_one_side_alone(side: str, folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path, "--only", side, "--repeats", "1") == 0
    found = report(tmp_path)
    assert list(found["sides"]) == (["pack", AGAIN] if side == "pack" else ["diffusers"])
    assert found["equal"] is None and "ratio" not in found["sides"][side]
    assert "not compared: one side ran" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_promises_nothing(dtype: str, folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path, "--dtype", dtype, "--repeats", "1") == 0
    found = report(tmp_path)
    assert not found["promised"] and set(found["gemm"]) == {"fp32", dtype}


def test_own_random_numbers_are_not_compared(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path, "--seeding", "per_image", "--repeats", "1") == 0
    found = report(tmp_path)
    assert found["equal"] is None and not found["promised"] and "ratio" in found["sides"]["pack"]


def test_a_broken_promise_fails(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = contenders.Pack.draw

    def wrong(self: contenders.Pack, workload: contenders.Workload, laps: Laps) -> contenders.Output:
        drawn = draw(self, workload, laps)
        tokens = drawn.tokens.clone()
        tokens[0, 0, 0] = (tokens[0, 0, 0] + 1) % 64
        return drawn._replace(tokens=tokens)

    monkeypatch.setattr(contenders.Pack, "draw", wrong)
    assert run(folder, tmp_path, "--repeats", "1") == 1
    found = report(tmp_path)["equal"]
    assert found["tokens"] == 63 / 64 and found["pictures"] == 0 and found["levels"] is None
    growth = ("--growth", "--batches", "1", "--sizes", "32", "--step-counts", "2", "--repeats", "1")
    assert run(folder, tmp_path, *growth) == 1


@pytest.mark.parametrize(("mode", "steps", "int8"), [("exact", 3, False), ("int8", 3, True), ("fast", 8, False)])
def test_the_mode_reaches_the_model(folder: Path, tmp_path: Path, mode: str, steps: int, int8: bool) -> None:
    seen: list[Any] = []
    draw = AmusedModel.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AmusedModel, "run", lambda *a, **k: seen.append(draw(*a, **k)) or seen[-1])
        assert run(folder, tmp_path, "--mode", mode, "--only", "pack", "--repeats", "1") == 0
    assert report(tmp_path)["settings"]["mode"] == mode
    assert (seen[-1].settings[0]["steps"], seen[-1].settings[0]["int8"]) == (steps, int8)
    side = report(tmp_path)["sides"]["pack"]
    times = {"step": steps - 1, "sampler": steps}
    assert side["total"][0] == pytest.approx(sum(v[0] * times.get(name, 1) for name, v in side["parts"].items()))


def test_fast_has_its_own_steps(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, tmp_path, "--mode", "fast", "--measured-steps", "2") == 2
    assert "leave --measured-steps and --growth out" in capsys.readouterr().err


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, tmp_path, "--repeats", "1", "--only", "pack") == 0
    assert 'needs matplotlib, which comes with `pip install "amused-image[train]"`' in capsys.readouterr().err
    assert (tmp_path / "report.json").exists() and not (tmp_path / "report.png").exists()
