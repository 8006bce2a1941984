"""`amused bench --device`: its rows, its clock, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from amused_core.bench import device
from amused_core.cli import main


def options(folder: Path, tmp_path: Path, *more: str) -> list[str]:
    common = ["bench", "--model", str(folder), "--device", "cpu", "--steps", "3", "--repeats", "2", "--no-compile"]
    return [*common, "--output", str(tmp_path), *more]


def test_the_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(folder, tmp_path, "--dtypes", "fp32", "bf16", "--batches", "1", "2")) == 0
    text = (tmp_path / "device.md").read_text()
    assert text in capsys.readouterr().out and text.startswith("cpu; torch ")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| 32 |")]
    assert [row[1:4] for row in rows] == [
        [dtype, batch, side]
        for dtype in ("fp32", "bf16")
        for batch in ("1", "2")
        for side in ("diffusers", "pack", "pack, fast")
    ]
    exact = [row[-1] for row in rows if row[1] == "fp32" and row[3] == "pack"]
    assert exact == ["100.0% |"] * 2


def test_other_tokens_are_a_failure(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = device._sides

    def one_differs(*args: object) -> object:
        for name, draw in original(*args):
            yield name, (lambda seed, draw=draw: draw(seed) * 0) if name == "pack" else draw

    monkeypatch.setattr(device, "_sides", one_differs)
    assert main(options(folder, tmp_path, "--dtypes", "fp32", "--batches", "1")) == 1


def test_warm_ups_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(device.time, "perf_counter", lambda: float(next(clock)))
    seen: list[int] = []
    timing = device.timed(lambda seed: (seen.append(seed), torch.tensor([seed]))[1], "cpu", 3)
    assert seen == [0, 1, 0, 1, 2] and timing.seconds == [1.0] * 3
    assert timing.memory is None and timing.tokens.tolist() == [0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--device", "tpu"], "device is 'tpu'"),
        (["--device", "cuda"], "device 'cuda' cannot be used here"),
        (["--dtypes", "fp8"], "--dtypes is 'fp8'; allowed are fp32, fp16, bf16."),
        (["--batches", "0"], "--batches is 0"),
        (["--repeats", "0"], "--repeats is 0"),
    ],
    ids=["device", "no card", "dtype", "batch", "repeats"],
)
def test_what_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    if "cuda" in more and torch.cuda.is_available():
        pytest.skip("there is a card")
    assert main(options(folder, tmp_path, *more)) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_compiled_sides(folder: Path, tmp_path: Path) -> None:
    arguments = options(folder, tmp_path, "--dtypes", "fp32", "--batches", "1")
    arguments.remove("--no-compile")
    assert main(arguments) == 0
    text = (tmp_path / "device.md").read_text()
    assert text.count("compiled") == 2 and text.count("100.0%") == 4
