"""Fine-tuning: `amused train`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from amused_core.cli import main
from amused_core.finetune.plan import LORA
from amused_core.finetune.trainer import Trainer


def train(*arguments: str | Path) -> int:
    return main(["train", *map(str, arguments), "--device", "cpu"])


def test_command(folder: Path, png: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (png, "--caption", "a castle", "--model", folder, "--steps", "2", "--output")
    assert train("lora", *options, tmp_path / "l", "--rank", "2", "--targets", "to_q", "to_out.0") == 0
    assert "lora.safetensors (2 steps" in capsys.readouterr().out
    assert len(load_file(tmp_path / "l" / LORA)) == 2 * 2 * (4 + 4)
    assert train("full", *options, tmp_path / "f", "--batch", "1") == 0
    assert (tmp_path / "f" / "model-000002" / "model_index.json").is_file()
    assert (tmp_path / "l" / "report.txt").read_text() == "1 used, 0 left out\n"
    assert train("lora", *options, tmp_path / "l", "--rank", "2", "--targets", "to_q", "to_out.0") == 0
    assert "(0 steps" in capsys.readouterr().out


def test_a_run_of_another_preset_is_refused_by_its_name(
    folder: Path, png: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("lora", png, "--caption", "a castle", "--model", folder, "--steps", "1", "--output", tmp_path / "l")
    assert train(*options) == 0 and train(*options, "--preset", "dataset") == 2
    assert "was begun with the preset 'style', not 'dataset' (batch 4, not 16); go on" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_waits_for_the_end_of_a_step(
    folder: Path, png: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, ends = Trainer.step, []

    def pressed(trainer: Trainer) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        loss = step(trainer)
        ends.append(loss)
        return loss

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Trainer, "step", pressed)
    options = ("lora", png, "--caption", "a castle", "--model", folder, "--output", tmp_path / "l", "--steps", "9")
    assert train(*options) == 130 and len(ends) == 1
    assert "stopping after this step" in capsys.readouterr().err and (tmp_path / "l" / LORA).is_file()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["lora", "nowhere.png", "--caption", "x"], "Nothing at 'nowhere.png'"),
        (["lora", "PNG"], "has no caption"),
        (["lora", "PNG", "--caption", "x", "--preset", "full"], "for 'lora' allowed are style, dataset"),
        (["full", "PNG", "--caption", "x", "--preset", "style"], "for 'full' allowed are full, full-8bit"),
        (["lora", "PNG", "--caption", "x", "--steps", "0"], "steps is 0"),
        (["lora", "PNG", "--caption", "x", "--save-every", "0"], "--save-every is 0"),
        (["lora", "PNG", "--caption", "x", "--width", "33"], "width is 33"),
    ],
)
def test_command_refuses(
    options: list[str], said: str, folder: Path, png: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(png) if option == "PNG" else option for option in options]
    assert train(*options, "--model", folder, "--output", tmp_path / "out") == 2
    captured = capsys.readouterr().err
    assert said in captured and "Traceback" not in captured
