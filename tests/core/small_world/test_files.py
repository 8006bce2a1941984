"""Training of the small world: training states, log and export."""

from __future__ import annotations

import json

import pytest
import torch

from amused_core.files import writing
from amused_core.files.training_state import load_state, save_state
from amused_core.small_world.training import vq
from amused_core.small_world.training.export import Parts, write_folder
from amused_core.small_world.training.progress import TrainingLog
from tests.core.small_world.tiny_world import TINY_VQ, tiny_trainer


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    save_state(path, {"a": torch.ones(2)}, {"step": 1})

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(writing.os, "fsync", fail)
    with pytest.raises(ValueError, match="run.safetensors.*disk full"):
        save_state(path, {"a": torch.zeros(2)}, {"step": 2})
    loaded, meta = load_state(path)
    assert meta == {"step": 1} and torch.equal(loaded["a"], torch.ones(2))


def test_a_broken_checkpoint_is_named(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="bad.safetensors"):
        load_state(tmp_path / "bad.safetensors")


def test_log_drops_the_rows_after_the_step_that_a_run_goes_on_from(tmp_path):
    log = TrainingLog(tmp_path / "log.csv", ("step", "seconds", "loss"), 0, every=2)
    for step in range(1, 7):
        log.add(step, float(step), {"loss": float(step)})
    again = TrainingLog(tmp_path / "log.csv", ("step", "seconds", "loss"), 4, every=2)
    assert [row[0] for row in again.rows] == ["2", "4"]
    assert (tmp_path / "log.csv").read_text().splitlines()[1:] == ["2,2.0,1.5000", "4,4.0,3.5000"]


def test_export_loads_and_draws_in_diffusers(tmp_path):
    from diffusers import AmusedPipeline

    trainer = tiny_trainer()
    trainer.step(0.0)
    trainer.use_ema()
    model = vq.build_vq(TINY_VQ | {"sample_size": 32})
    parts = Parts(model.eval(), trainer.transformer.eval(), trainer.text_encoder.eval(), trainer.tokenizer)
    write_folder(tmp_path / "model", parts, 32, 1.5)
    assert {p.name for p in tmp_path.iterdir()} == {"model"}
    settings = json.loads((tmp_path / "model" / "amused.json").read_text())["recommended"]
    assert settings["cfg"] == 1.5 and settings["width"] == 32
    pipeline = AmusedPipeline.from_pretrained(tmp_path / "model", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        "an apple", height=32, width=32, guidance_scale=1.5, num_inference_steps=2, output_type="np"
    ).images
    assert images.shape == (1, 32, 32, 3)
    assert (
        pipeline.scheduler.config.mask_token_id == 32
        and pipeline.text_encoder.config.eos_token_id == len(trainer.tokenizer) - 1
    )
