"""`amused check`: what is right passes, and every kind of fault is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from amused_core import load_model
from amused_core.bench.weights import RandomSource
from amused_core.check import images
from amused_core.check.configs import config_findings, published_name
from amused_core.check.images import GOLDENS, golden_of
from amused_core.check.summary import short_form
from amused_core.check.weights import weight_findings
from amused_core.checkpoint import Checkpoint, open_checkpoint
from amused_core.cli import main

WEIGHTS = {"transformer": "transformer/diffusion_pytorch_model.safetensors"}


class Published(RandomSource):
    """A published checkpoint's configs and headers, of which some may be changed."""

    def __init__(self, shape: str, dtype: torch.dtype = torch.float32, **changes: object) -> None:
        super().__init__(shape, 0, dtype)
        self._configs = {part: {**config, **changes} for part, config in self._configs.items()}


def checkpoint(*args: object, **changes: object) -> Checkpoint:
    return Checkpoint(Path("model"), Published(*args, **changes))


@pytest.mark.parametrize("shape", ["256", "512"])
def test_published_configs(shape: str) -> None:
    found = checkpoint(shape)
    assert published_name(found) == f"amused-{shape}" and [f.passed for f in config_findings(found)] == [True] * 4
    assert short_form(found).startswith(f"model: aMUSEd with the sizes of amused-{shape}, 87")


def test_a_value_that_is_not_the_published_one() -> None:
    (wrong,) = [f for f in config_findings(checkpoint("512", layer_norm_eps=1e-5)) if not f.passed]
    assert wrong.check == "transformer config" and wrong.result == "layer_norm_eps is 1e-05 instead of 1e-06"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", ["256", "512"])
def test_published_goldens(shape: str, dtype: torch.dtype) -> None:
    assert golden_of(checkpoint(shape, dtype), dtype) is GOLDENS[f"amused-{shape}", dtype]


def test_the_embedded_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    shown = capsys.readouterr().out
    assert "FAILED" not in shown and "256 of 256 are equal" in shown
    assert "| golden image | ok |" in shown


def test_every_fault_of_the_weights(copy: Path) -> None:
    path = copy / WEIGHTS["transformer"]
    state = load_file(path)
    names = [name for name in state if state[name].ndim == 2][:3]
    gone, wide, broken = names
    state["more.weight"], state[wide] = torch.ones(2), torch.cat([state[wide]] * 2)
    state[broken][0, 0] = torch.nan
    del state[gone]
    save_file(state, path)
    transformer, *others = weight_findings(open_checkpoint(copy))
    assert not transformer.passed and all(finding.passed for finding in others)
    for words in (
        f"1 missing: {gone}",
        "1 unexpected: more.weight",
        f"1 of another shape: {wide} [",
        f"NaN or infinite: {broken}",
    ):
        assert words in transformer.result, transformer.result


def test_damaged_weights_draw_no_images(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / WEIGHTS["transformer"]
    state = load_file(path)
    state.popitem()
    save_file(state, path)
    assert main(["check", str(copy)]) == 1
    shown = capsys.readouterr().out
    assert "| transformer weights | **FAILED** | 1 missing" in shown and "the weights cannot be loaded" in shown


@pytest.mark.parametrize(("shift", "dtype", "code"), [(0.0, "fp32", 0), (0.01, "fp32", 1), (0.01, "fp16", 0)])
def test_a_golden_of_its_own(
    copy: Path, capsys: pytest.CaptureFixture[str], shift: float, dtype: str, code: int
) -> None:
    """That of another dtype is not its own."""
    drawn = load_model(copy, device="cpu").generate("dog", steps=2, cfg=10, seeding="diffusers").images
    pixels = (drawn[0, -3:, -3:, -1].flatten() + shift).tolist()
    (copy / "amused.json").write_text(json.dumps({"golden": {"pixels": pixels, "dtype": dtype}}))
    assert main(["check", str(copy)]) == code
    assert ("none is known" in capsys.readouterr().out) == (dtype == "fp16")


def test_other_tokens_than_diffusers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original: Callable[..., torch.Tensor] = images._diffusers_tokens

    def one_differs(*args: object) -> torch.Tensor:
        tokens = original(*args)
        tokens[0, 0, 0] += 1
        return tokens

    monkeypatch.setattr(images, "_diffusers_tokens", one_differs)
    assert main(["check", str(folder)]) == 1
    assert "63 of 64 are equal" in capsys.readouterr().out


def test_files_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder), "--files-only"]) == 0
    assert "| images | - | not asked for |" in capsys.readouterr().out
    assert main(["check", str(folder / "nowhere")]) == 2


@pytest.mark.parametrize(
    ("device", "why"), [("gpu", "allowed are auto, cpu, cuda, mps"), ("cuda:99", "cannot be used here")]
)
def test_a_device_that_is_not_there_is_no_fault_of_the_model(
    folder: Path, capsys: pytest.CaptureFixture[str], device: str, why: str
) -> None:
    assert main(["check", str(folder), "--device", device]) == 2
    shown = capsys.readouterr()
    assert not shown.out and shown.err.count("\n") == 1
    assert repr(device) in shown.err and why in shown.err
