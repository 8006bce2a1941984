"""Which dtype "auto" takes on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from amused_core import load_model
from amused_core.model import placement
from tests.tiny import write_tiny_checkpoint


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint stored in fp16."""
    from safetensors.torch import load_file, save_file

    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("halves") / "tiny")
    for file in folder.rglob("*.safetensors"):
        save_file({key: value.half() for key, value in load_file(file).items()}, file)
    return folder


@pytest.mark.parametrize(
    ("stored", "large", "pays", "want"),
    [
        ("halves", True, True, torch.bfloat16),
        ("halves", True, False, torch.float32),
        ("halves", False, True, torch.float32),
        ("folder", True, True, torch.float32),
    ],
)
def test_auto(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    stored: str,
    large: bool,
    pays: bool,
    want: torch.dtype,
) -> None:
    """bf16 only for large models stored in halves, where the trial says so; fp32 weights stay exact."""
    monkeypatch.setattr(placement, "LARGE", 1 if large else 10**12)
    monkeypatch.setattr(placement, "bf16_pays", lambda: pays)
    model = load_model(request.getfixturevalue(stored), device="cpu")
    assert next(model.transformer.parameters()).dtype == want
    assert next(model.text.module.parameters()).dtype == want
    assert next(model.vq.module.parameters()).dtype == torch.float32
