"""aMUSEd batch: the command's pictures, cancelled jobs that go on, LoRAs and bad rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.comfy import graphs
from tests.comfy.batches import ROWS, batch, command, files, folder, pixels, records, write
from tests.comfy.harness import GraphError


@pytest.mark.parametrize("size", [0, 3])
def test_the_same_pictures_as_the_command(comfy, rows, tmp_path, size):
    """Of every kind of row, and in batches of any size."""
    expected = command(comfy, rows, tmp_path / "out")
    node = batch(comfy, graphs.load(comfy), batch_size=size)
    images, results = comfy.run(node, (node, 1))
    out = folder(comfy)
    assert Path(results) == out / "results.jsonl"
    assert [record["id"] for record in records(out)] == [row["id"] for row in ROWS]
    assert records(out) == records(expected)
    for row in ROWS:
        name = f"{row['id']}.png"
        assert np.array_equal(pixels(out / name), pixels(expected / name)), name
    assert images.shape == (7, 32, 32, 3) and torch.equal(
        (images[-1] * 255).byte(), torch.from_numpy(pixels(out / "h.png"))
    )


@pytest.mark.parametrize("stop", [1, 350, 610])
def test_a_cancelled_job_goes_on_when_queued_again(comfy, rows, tmp_path, stop):
    """What is drawn is kept, nothing is drawn twice, and the end is that of an undisturbed run."""
    from comfy import model_management

    loader = graphs.load(comfy)
    comfy.run(batch(comfy, loader, batch_size=1, output_folder="amused/plain"))
    plain = folder(comfy).with_name("plain_00001")
    comfy.on_progress = lambda value: value >= stop and model_management.interrupt_current_processing(True)
    try:
        with pytest.raises(GraphError) as error:
            comfy.run(batch(comfy, loader, batch_size=1))
        assert error.value.kind == "interrupted"
    finally:
        comfy.on_progress = None
        model_management.interrupt_current_processing(False)
    kept = {path: path.stat().st_mtime_ns for path in folder(comfy).glob("*.png")}
    assert len(kept) == len(records(folder(comfy))) and (stop - 100) // 100 <= len(kept) < len(ROWS)
    comfy.run(batch(comfy, loader, batch_size=1))
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert files(folder(comfy)) == files(plain) and records(folder(comfy)) == records(plain)


def test_queueing_again_runs_and_draws_only_what_is_missing(comfy, rows):
    node = batch(comfy, graphs.load(comfy))
    first = comfy.run(node)
    assert not comfy.run(node).sub(first).any() and not folder(comfy, 2).exists()
    shutil.rmtree(folder(comfy))
    assert torch.equal(comfy.run(node), first) and len(files(folder(comfy))) == len(ROWS)
    assert [event for event, _ in comfy.server.events if event == "executed"]


@pytest.mark.parametrize(
    "change", [{"base_seed": 1}, {"steps": 3}, {"text": "a cat", "file": "none"}, {"negative_prompt": "x"}]
)
def test_another_job_gets_another_folder(comfy, rows, change):
    loader = graphs.load(comfy)
    comfy.run(batch(comfy, loader))
    before = files(folder(comfy))
    comfy.run(batch(comfy, loader, **change))
    assert files(folder(comfy)) == before and records(folder(comfy, 2)) != records(folder(comfy))


def test_other_nodes_on_the_model_are_part_of_the_job(comfy, rows):
    """A patch's number alone makes another job; the same graph with other node ids does not."""

    def guided(scale):
        loader = graphs.load(comfy)
        return batch(comfy, loader, model=comfy.node("PerturbedAttentionGuidance", model=loader, scale=scale))

    write(rows, ROWS[:2])
    for scale in (0.0, 0.0, 100.0):
        comfy.run(guided(scale))
    assert files(folder(comfy)) != files(folder(comfy, 2)) and not folder(comfy, 3).exists()


@pytest.fixture
def lora(comfy):
    """A LoRA for both parts in ComfyUI's folder."""
    import folder_paths

    from amused_core import load_model
    from tests.loras import TEXT, UVIT, factors
    from tests.loras import write as write_lora

    place, model = comfy.models / "loras", load_model(comfy.models / "amused" / "tiny", device="cpu")
    place.mkdir(exist_ok=True)
    folder_paths.add_model_folder_path("loras", str(place))
    pairs = factors(model.transformer, UVIT), factors(model.text.module, TEXT, seed=1)
    return write_lora(place / "batch.safetensors", "diffusers", *pairs)


def test_a_lora_of_the_graph(comfy, rows, tmp_path, lora):
    plain = [{**row, "int8": False} for row in ROWS]
    expected = command(comfy, write(rows, plain), tmp_path / "out", "--lora", f"{lora}:0.5")
    loader = graphs.load(comfy)
    strength = {"lora_name": lora.name, "strength_model": 0.5, "strength_clip": 0.5}
    styled = comfy.node("AmusedLoraLoader", model=loader, clip=(loader, 1), **strength)
    comfy.run(batch(comfy, loader))
    comfy.run(batch(comfy, loader, model=styled, clip=(styled, 1)))
    assert_same_tokens(folder(comfy, 2), expected)
    assert files(folder(comfy)) != files(folder(comfy, 2))


def assert_same_tokens(out: Path, expected: Path) -> None:
    """Weights that ComfyUI has patched differ in their last bits, and so may a pixel's level."""
    assert files(out).keys() == files(expected).keys()
    for path in out.glob("*.png"):
        difference = pixels(path).astype(int) - pixels(expected / path.name)
        assert abs(difference).max() <= 1, path.name


def test_loras_of_rows(comfy, rows, tmp_path, lora):
    """By the names that the LoRA loader lists; the command names files beside the table."""
    named = [{**ROWS[0], "lora": f"{lora.name}:0.5"}, ROWS[1], {**ROWS[7], "lora": [lora.name]}]
    shutil.copy(lora, tmp_path)
    expected = command(comfy, write(tmp_path / "rows.jsonl", named), tmp_path / "out")
    write(rows, [*named, {"id": "x", "prompt": "x", "lora": "none.safetensors"}])
    comfy.run(batch(comfy, graphs.load(comfy)))
    assert_same_tokens(folder(comfy), expected)
    assert "none.safetensors" in (folder(comfy) / "errors.jsonl").read_text()


def test_bad_rows_stop_nothing_and_are_tried_again(comfy, rows, caplog):
    bad = [{"prompt": "a", "image": "../x.png"}, {"prompt": "a", "image": "https://x/y.png"}, {"steps": 3}]
    bad += [{"prompt": "a", "image": "later.png"}, {"prompt": "a", "width": 30}]
    write(rows, [ROWS[0], *bad, ROWS[1]])
    (rows.parent / "later.png").unlink(missing_ok=True)
    comfy.run(batch(comfy, graphs.load(comfy)))
    errors = [json.loads(line) for line in (folder(comfy) / "errors.jsonl").read_text().splitlines()]
    assert [error["row"] for error in errors] == [1, 2, 3, 4, 5]
    assert all("picture" in error["error"] and "not there" in error["error"] for error in (*errors[:2], errors[3]))
    assert len(files(folder(comfy))) == 2 and "5 could not be generated" in caplog.text and "line 2" in caplog.text
    shutil.copy(rows.parent / "start.png", rows.parent / "later.png")
    comfy.run(batch(comfy, graphs.load(comfy)))
    assert len(files(folder(comfy))) == 3 and not folder(comfy, 2).exists()
    (rows.parent / "later.png").unlink()


def test_progress_and_previews_are_of_the_whole_job(comfy, rows):
    comfy.run(batch(comfy, graphs.load(comfy), batch_size=2))
    shown = [value for value, total, _ in comfy.steps if total == 100 * len(ROWS)]
    assert shown == sorted(shown) and shown[-1] == 100 * len(ROWS) and len(set(shown)) > 2 * len(ROWS)
    previews = [preview for _, _, preview in comfy.steps if preview]
    assert previews and all(kind == "JPEG" and picture.size[1] >= 24 for kind, picture, _ in previews)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "none"}, "There are no rows"),
        ({"file": "gone.csv"}, "The rows file 'gone.csv' is not there"),
        ({"file": "../rows.jsonl"}, "is not there"),
        ({"output_folder": "../x"}, "output_folder is '../x'"),
        ({"output_folder": "/x"}, "output_folder is '/x'"),
        ({"output_folder": ""}, "output_folder is ''"),
        ({"file": "none", "text": "a cat", "width": 30}, "No row could be generated; the first is line 1: width is 30"),
    ],
)
def test_refusals(comfy, rows, change, said):
    with pytest.raises(GraphError) as error:
        comfy.run(batch(comfy, graphs.load(comfy), **change))
    assert said in str(error.value)


def test_parts_of_other_models_are_refused(comfy, rows):
    loader, other = graphs.load(comfy), graphs.load(comfy, "tiny8")
    for name, part in (("model", "MODEL"), ("clip", "CLIP"), ("vae", "VAE")):
        with pytest.raises(GraphError, match=f"connect the {part} of 'Load aMUSEd'"):
            comfy.run(batch(comfy, loader, **{name: comfy.give(object())}))
    with pytest.raises(GraphError, match="connect those of the same 'Load aMUSEd'"):
        comfy.run(batch(comfy, loader, vae=(other, 2)))
