"""Fine-tuning: what a stop or a crash leaves, and that a resumed run is the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from amused_core import AmusedError, load_model
from amused_core.files.training_state import load_state
from amused_core.files.writing import beside, write_text
from amused_core.finetune import curve
from amused_core.finetune.plan import LORA, STATE, TrainingPlan
from amused_core.finetune.prepare import prepare
from amused_core.finetune.presets import preset
from amused_core.finetune.trainer import STATE_KEY
from tests.core.finetune.runs import QUICK, ROOT, MakeRun, same, weights


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_going_on_is_the_same_as_no_stop(run: MakeRun, kind: str) -> None:
    settings = QUICK.with_changes(
        kind=kind, ema=0.9, steps=7, warmup=2, accumulation=2, prior_prompts=("a castle",), prior_count=3
    )
    whole = run("whole", settings)
    whole.train()
    for _ in range(3):
        part = run("parts", settings)
        for _ in range(min(3, 7 - len(part.trainer.losses))):
            part.trainer.step()
        part.save()
    assert part.trainer.losses == whole.trainer.losses
    assert same(weights(part), weights(whole)) and same(part.trainer.ema, whole.trainer.ema)
    part.export()
    if kind == "lora":
        one, two = (load_file(training.plan.output / LORA) for training in (part, whole))
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_longer_run_goes_on(run: MakeRun) -> None:
    run("run", QUICK).train()
    longer = run("run", QUICK.with_changes(steps=9))
    assert len(longer.trainer.losses) == 6
    longer.train()
    whole = run("whole", QUICK.with_changes(steps=9))
    whole.train()
    assert same(weights(longer), weights(whole))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": QUICK.with_changes(learning_rate=1e-3)}, "learning_rate 0.01, not 0.001"),
        ({"settings": QUICK.with_changes(rank=2)}, "rank 4, not 2"),
        ({"settings": QUICK.with_changes(rank=2, preset="full")}, r"the preset 'style', not 'full' \(rank 4, not 2\);"),
        ({"caption": "a castle"}, "other images or captions"),
    ],
)
def test_another_run_is_not_gone_on_with(run: MakeRun, change: dict[str, Any], said: str) -> None:
    run("run", QUICK.with_changes(preset="style")).train()
    with pytest.raises(AmusedError, match=said):
        run("run", **change)


def test_an_interrupt_keeps_what_was_learnt(run: MakeRun) -> None:
    training = run(settings=QUICK.with_changes(steps=50))

    def stop(done: int, loss: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(stop)
    assert len(run(settings=QUICK.with_changes(steps=50)).trainer.losses) == 3
    with safe_open(training.plan.output / LORA, framework="pt") as file:
        assert file.metadata()["steps"] == "3"


def test_an_interrupt_within_a_step_keeps_the_state_of_before(run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some weights are a step ahead of the others then."""
    training = run(save_every=2)
    trainer, step = training.trainer, training.trainer.optimizer.step

    def interrupted() -> None:
        step()
        if len(trainer.losses) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer.optimizer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.train()
    again = run(save_every=2)
    assert len(again.trainer.losses) == 2
    again.train()
    undisturbed = run("other")
    undisturbed.train()
    assert same(weights(again), weights(undisturbed))


def test_kill_at_any_moment(run: MakeRun, folder: Path, png: Path, tmp_path: Path) -> None:
    """SIGKILL again and again: no file is ever broken, and the end is that of a run without a stop."""
    settings = preset("style", load_model(folder).checkpoint.transformer_config, steps=40, batch=2, rank=4)
    output = tmp_path / "killed"
    command = [sys.executable, "-m", "amused_core.cli", "train", "lora", str(png), "--caption", "a mushroom"]
    command += ["--model", str(folder), "--output", str(output), "--steps", "40", "--batch", "2", "--rank", "4"]
    command += ["--save-every", "1", "--device", "cpu"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    reached = []
    for delay in (0.05, 0.11):
        process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wanted, patience = (reached[-1] if reached else 0) + 2, time.monotonic() + 120
        while _saved(output) < wanted and process.poll() is None and time.monotonic() < patience:
            time.sleep(0.02)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached.append(_saved(output))
        for file in output.glob("*.safetensors"):
            load_file(file)
        rows = (output / "loss.csv").read_text().splitlines()
        assert all(len(row.split(",")) == 2 for row in rows)
    assert 0 < reached[0] < reached[1] <= 40
    training = prepare(load_model(folder), TrainingPlan(png, "a mushroom", output), settings)
    assert len(training.trainer.losses) == reached[-1]
    training.train()
    whole = prepare(load_model(folder), TrainingPlan(png, "a mushroom", tmp_path / "whole"), settings)
    whole.train()
    assert same(weights(training), weights(whole))


def _saved(output: Path) -> int:
    """Steps in the saved state; 0 where there is none."""
    state = output / STATE
    return len(load_state(state, STATE_KEY)[1]["losses"]) if state.exists() else 0


@pytest.mark.parametrize("damage", ["cut", "text", "other"])
def test_a_broken_state_is_refused(run: MakeRun, damage: str) -> None:
    training = run()
    training.train()
    state = training.plan.output / STATE
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-50])
    elif damage == "text":
        state.write_text("hello")
    else:
        shutil.copyfile(training.plan.output / LORA, state)
    with pytest.raises(AmusedError, match="state.safetensors"):
        run()


def test_a_file_is_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(AmusedError, match="x.txt.*disk full"), beside(path) as partial:
        partial.write_text("ne")
        raise OSError("disk full")
    assert path.read_text() == "old"


def test_curve_and_samples(run: MakeRun) -> None:
    training = run(sample_every=3, sample_prompts=("a castle", "a boat"))
    training.train()
    rows = (training.plan.output / "loss.csv").read_text().splitlines()
    assert rows[0] == "step,loss" and [row.split(",")[0] for row in rows[1:]] == [str(i) for i in range(1, 7)]
    assert [float(row.split(",")[1]) for row in rows[1:]] == pytest.approx(training.trainer.losses, abs=1e-5)
    samples = sorted((training.plan.output / "samples").iterdir())
    assert [path.name for path in samples] == ["step-000003.png", "step-000006.png"]
    assert Image.open(samples[0]).size == (66, 32)
    assert Image.open(training.plan.output / "loss.png").size == (600, 300)


def test_smoothed_curve() -> None:
    assert curve.smoothed([4.0, 2.0, 0.0, 0.0], window=2) == [4.0, 3.0, 1.0, 0.0]
