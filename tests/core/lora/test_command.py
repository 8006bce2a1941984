"""LoRAs on the command line, and in a saved model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from amused_core import load_model
from amused_core.cli import main
from amused_core.lora.argument import split_lora
from tests import loras
from tests.loras import UVIT, factors

RUN = {"prompt": "a cat", "steps": 3, "cfg": 3.0, "seed": 4}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.5", ("a.safetensors", 0.5)),
        ("a.safetensors:-2", ("a.safetensors", -2.0)),
        (r"C:\x.safetensors", (r"C:\x.safetensors", 1.0)),
        (r"C:\x.safetensors:0.5", (r"C:\x.safetensors", 0.5)),
        ("a.safetensors:", ("a.safetensors:", 1.0)),
        (":0.5", (":0.5", 1.0)),
    ],
)
def test_file_and_strength_of_the_command_line(text, want):
    assert split_lora(text) == want


def test_the_command_line(model, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, second = (factors(model.transformer, UVIT, seed=seed) for seed in (0, 1))
    loras.write(Path("one.safetensors"), "diffusers", first)
    save_file(loras.tensors("kohya", second) | {"odd.lora_up.weight": torch.ones(2, 2)}, "two.safetensors")
    options = ["--model", str(folder), "--steps", "3", "--cfg", "3", "--seed", "4", "--save-tokens", "x.npy"]
    assert main(["generate", *options, "--lora", "one.safetensors", "--lora", "two.safetensors:-0.5", "a cat"]) == 0
    model.load_lora("one.safetensors")
    model.load_lora("two.safetensors", -0.5)
    import numpy as np

    assert torch.from_numpy(np.load("x.npy")).equal(model.generate(**RUN).tokens)
    about = json.loads(Image.open("amused.png").text["amused"])
    assert about["loras"] == [
        {"name": "one.safetensors", "strength": 1.0},
        {"name": "two.safetensors", "strength": -0.5},
    ]
    error = capsys.readouterr().err
    assert (
        error.count("1 key of the LoRA 'two.safetensors' fits nothing here and is left out: odd.lora_up.weight.") == 1
    )
    assert main(["generate", *options, "--lora", "three.safetensors:0.5", "a cat"]) == 2
    assert capsys.readouterr().err.startswith("amused: No LoRA at 'three.safetensors'; ")


def test_a_saved_model_is_without_loras(model, folder, tmp_path):
    model.load_lora(loras.write(tmp_path / "a.safetensors", "kohya", factors(model.transformer, UVIT)))
    model.save(tmp_path / "model.safetensors")
    saved, plain = load_file(tmp_path / "model.safetensors"), load_model(folder, device="cpu")
    for name, value in plain.transformer.named_parameters():
        assert saved[f"transformer.{name}"].equal(value)
