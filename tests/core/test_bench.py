"""`amused bench` on tiny models: what it reports and refuses. No time is asserted."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from amused_core import AmusedModel
from amused_core.bench import measure, sides
from amused_core.bench.laps import PARTS, Laps, compose, instead, parts
from amused_core.bench.memory import Peak, high_water, resident
from amused_core.bench.weights import RandomSource, shared_checkpoint
from amused_core.checkpoint import Checkpoint
from amused_core.cli import main

AGAIN = measure.AGAIN


@pytest.fixture(scope="module", autouse=True)
def _hurry() -> Iterator[None]:
    """Matrix products are measured once instead of for a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amused_core.bench.machine._SECONDS", 0)
        patch.setattr("amused_core.bench.machine._TIMES", 1)
        yield


def run(model: Path, output: Path, *options: str) -> int:
    return main(["bench", "--model", str(model), "--output", str(output), "--steps", "3", *options])


def report(folder: Path, name: str = "report") -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text())


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
    sides_found = result[1]["sides"]
    assert sides_found[AGAIN]["parts"]["text"] == [0, 0]
    assert min(sides_found["pack"]["parts"]["text"]) > 0 and min(sides_found["diffusers"]["parts"]["text"]) > 0


def test_the_totals_are_all_that_was_spent(folder: Path) -> None:
    checkpoint = shared_checkpoint(str(folder), None, 0, torch.float32)
    job = sides.Job("a cat", "a dog", 1, 3, 1, 32, 32, 3.0, (2.0, 0.0))
    for side in (sides.Pack(checkpoint, torch.float32, "diffusers"), sides.Diffusers(checkpoint, torch.float32)):
        ticks = itertools.count()
        laps = Laps(lambda ticks=ticks: (next(ticks),))
        side.draw(job, laps)
        assert len(laps.taken["step"]) == 3
        assert compose(parts(laps.taken), 3) == pytest.approx((next(ticks) - 1,)), side.name


def test_the_sides_share_their_weights(folder: Path) -> None:
    checkpoint = shared_checkpoint(str(folder), None, 0, torch.float32)
    pack, diffusers = sides.Pack(checkpoint, torch.float32, "diffusers"), sides.Diffusers(checkpoint, torch.float32)
    ours = {value.data_ptr() for value in pack.model.transformer.parameters()}
    theirs = {value.data_ptr() for value in diffusers.pipe.transformer.parameters()}
    assert len(ours & theirs) > len(theirs) / 2
    assert {v.data_ptr() for v in pack.model.text.module.parameters()} == {
        v.data_ptr() for v in diffusers.pipe.text_encoder.parameters()
    }


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
    draw = sides.Pack.draw

    def wrong(self: sides.Pack, job: sides.Job, laps: Laps) -> sides.Drawn:
        drawn = draw(self, job, laps)
        tokens = drawn.tokens.clone()
        tokens[0, 0, 0] = (tokens[0, 0, 0] + 1) % 64
        return drawn._replace(tokens=tokens)

    monkeypatch.setattr(sides.Pack, "draw", wrong)
    assert run(folder, tmp_path, "--repeats", "1") == 1
    found = report(tmp_path)["equal"]
    assert found["tokens"] == 63 / 64 and found["pictures"] == 0 and found["levels"] is None
    growth = ("--growth", "--batches", "1", "--sizes", "32", "--step-counts", "2", "--repeats", "1")
    assert run(folder, tmp_path, *growth) == 1


def test_pictures_are_compared_in_levels() -> None:
    tokens = torch.zeros(2, 1, 1, dtype=torch.int64)
    pixels = torch.full((2, 4, 4, 3), 0.4)
    other = pixels.clone()
    other[0, 0, 0, 0] += 3 / 255
    runs = [measure.Run(sides.Drawn(tokens, picture), {}, None, None) for picture in (pixels, other)]
    found = measure.equality({"diffusers": [runs[0]], "pack": [runs[1]], AGAIN: [runs[0]]})
    assert found is not None and found["levels"] == 3 and found["differing"] == pytest.approx(1 / 96)


def test_growth(folder: Path, tmp_path: Path) -> None:
    points = ("--batches", "1", "2", "--sizes", "16", "32", "--step-counts", "2", "4")
    assert run(folder, tmp_path, "--growth", *points, "--measured-steps", "2", "--repeats", "1") == 0
    found = report(tmp_path, "growth")["growth"]["points"]
    assert [(point["axis"], point["value"]) for point in found] == [
        ("batch", 1), ("batch", 2), ("size", 16), ("size", 32), ("steps", 2), ("steps", 4)
    ]  # fmt: skip
    assert [point["batch"] for point in found] == [1, 2, 1, 1, 1, 1]
    assert [point["width"] for point in found] == [32, 32, 16, 32, 32, 32]
    assert [point["sides"]["pack"]["composed"] for point in found] == [True] * 4 + [False] * 2
    assert all(point["equal"]["tokens"] == 1 for point in found)
    assert found[1]["flop"]["step"] == 2 * found[0]["flop"]["step"]
    assert (tmp_path / "growth.png").exists() and "By pixels a side" in (tmp_path / "growth.md").read_text()


def test_growth_leaves_out_what_is_dear(folder: Path, tmp_path: Path) -> None:
    points = ("--batches", "1", "--sizes", "32", "--step-counts", "2")
    assert run(folder, tmp_path, "--growth", *points, "--reference-below", "0", "--repeats", "1") == 0
    assert all(set(p["sides"]) == {"pack", AGAIN} for p in report(tmp_path, "growth")["growth"]["points"])


@pytest.mark.parametrize(("shape", "parameters"), [("256", 603_537_664), ("512", 608_257_792)])
def test_random_weights_have_the_published_sizes(shape: str, parameters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amused_core.bench.weights._filled", lambda name, size, _: torch.empty(size, device="meta"))
    checkpoint = Checkpoint(Path("random"), RandomSource(shape, 0))
    counts = [
        sum(v.numel() for v in checkpoint.state(part).values()) for part in ("transformer", "vqvae", "text_encoder")
    ]
    assert counts == [parameters, 146_244_675, 123_650_304]
    assert checkpoint.factor == 16 and checkpoint.recommended.width == int(shape)
    assert checkpoint.tokenizer().model_max_length == 77


def test_random_weights_are_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "projection_dim": 16}
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8}
    monkeypatch.setattr("amused_core.bench.weights._TEXT", sizes)
    one, same, other = (RandomSource("256", seed).state("text_encoder") for seed in (0, 0, 1))
    weight = "text_model.encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(one[weight], same[weight]) and not torch.equal(one[weight], other[weight])
    assert one[weight].std().item() == pytest.approx(32**-0.5, rel=0.1)
    half = RandomSource("256", 0, torch.float16).state("text_encoder")
    assert torch.equal(half[weight], one[weight].half())


@pytest.mark.parametrize(("mode", "steps", "int8"), [("exact", 3, False), ("int8", 3, True), ("fast", 8, True)])
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


def test_a_method_comes_back() -> None:
    class Owner:
        def method(self) -> int:
            return 1

    owner = Owner()
    with pytest.raises(KeyError), instead(owner, "method", lambda: 2):
        assert owner.method() == 2
        raise KeyError
    assert owner.method() == 1 and vars(owner) == {}


@pytest.mark.skipif(resident() is None, reason="the system does not say how much memory is in use")
def test_the_peak_is_seen_although_it_is_over() -> None:
    size = 100_000_000
    with Peak() as memory:
        block = torch.ones(size, dtype=torch.uint8)
        time.sleep(0.1)
        del block
    assert memory.peak - memory.before >= 0.8 * size
    # Linux counts it from another, slightly coarser counter.
    assert high_water() >= 0.99 * memory.peak


REFUSED = {
    "a shape": (["--shape", "1024"], "--shape is '1024'; allowed are 256, 512"),
    "shape and model": (["--shape", "256"], "only one of them can be given"),
    "a dtype": (["--dtype", "int8"], "--dtype is 'int8'; allowed are fp32, fp16, bf16"),
    "a mode": (["--mode", "quick"], "--mode is 'quick'; allowed are exact, int8, fast"),
    "a seeding": (["--seeding", "mine"], "--seeding is 'mine'; allowed are per_image, diffusers"),
    "a side": (["--only", "both"], "--only is 'both'; allowed are pack, diffusers"),
    "steps": (["--steps", "0"], "--steps is 0; allowed are whole numbers from 1"),
    "more measured steps than steps": (["--measured-steps", "4"], "--measured-steps is 4; allowed are whole numbers"),
    "one measured step of a batch": (["--measured-steps", "1", "--batch", "2"], "allowed with several pictures are 2"),
    "a batch": (["--batch", "0"], "--batch is 0"),
    "repeats": (["--repeats", "0"], "--repeats is 0"),
    "threads": (["--threads", "0"], "--threads is 0"),
    "a seed": (["--seed", "-1"], "--seed is -1"),
    "guidance": (["--cfg", "nan"], "--cfg is nan"),
    "a limit": (["--reference-below", "-1"], "--reference-below is -1"),
    "growth of one side": (["--growth", "--only", "pack"], "--growth always measures this pack"),
    "a size": (["--growth", "--sizes", "30"], "--sizes is 30; allowed are multiples of 4 pixels"),
    "batches": (["--growth", "--batches", "2", "0"], "--batches is 0"),
    "step counts": (["--growth", "--step-counts", "0"], "--step-counts is 0"),
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
    assert run(folder, tmp_path, "--repeats", "1", "--only", "pack") == 0
    assert 'needs matplotlib, which comes with `pip install "amused-image[train]"`' in capsys.readouterr().err
    assert (tmp_path / "report.json").exists() and not (tmp_path / "report.png").exists()
