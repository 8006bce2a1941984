"""What `amused bench` refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.bench.runs import run

REFUSED = {
    "a shape": (["--shape", "1024"], "--shape is '1024'; allowed are 256, 512"),
    "shape and model": (["--shape", "256"], "only one of them can be given"),
    "a dtype": (["--dtype", "int8"], "--dtype is 'int8'; allowed are fp32, fp16, bf16"),
    "a mode": (["--mode", "quick"], "--mode is 'quick'; allowed are exact, int8, fast"),
    "a seeding": (["--seeding", "mine"], "--seeding is 'mine'; allowed are per_image, diffusers"),
    "a side": (["--only", "both"], "--only is 'both'; allowed are pack, diffusers"),
    "steps": (["--steps", "0"], "--steps is 0; allowed are whole numbers from 1"),
    "more measured steps than steps": (["--measured-steps", "4"], "--measured-steps is 4; allowed are whole numbers"),
    "one measured step of a batch": (["--measured-steps", "1", "--batch", "2"], "allowed with several images are 2"),
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
