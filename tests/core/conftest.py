"""Tiny random models for the tests of the core: made once, loaded once."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from amused_core import AmusedModel, load_model
from amused_core.networks import int8, threads
from tests.tiny import write_tiny_checkpoint


@pytest.fixture(scope="session", autouse=True)
def _steady_threads() -> Iterator[None]:
    """Runs are compared to the last bit, which depends on the number of threads, and that on what else runs here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "_others", lambda: 0)
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the 256 shape: factor 4, 8x8 tokens. Never write into it: see `broken`."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def folder_512(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the 512 shape (down- and upsampling)."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny512", downsample=True, seed=1)


@pytest.fixture(scope="session")
def model(folder: Path) -> AmusedModel:
    """`folder`, loaded."""
    return load_model(folder)


@pytest.fixture(scope="session")
def model_512(folder_512: Path) -> AmusedModel:
    """`folder_512`, loaded."""
    return load_model(folder_512)


@pytest.fixture(scope="session")
def picture() -> torch.Tensor:
    """A random picture, float [1,32,32,3]."""
    return torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of `folder` to damage."""
    return shutil.copytree(folder, tmp_path / "model")


@pytest.fixture
def edit(copy: Path) -> Callable[..., Path]:
    """`edit("vqvae/config.json", key=value)` changes a JSON file of the copy (`None` deletes the key)."""

    def change(file: str, **changes: Any) -> Path:
        content = json.loads((copy / file).read_text(encoding="utf-8"))
        content.update(changes)
        content = {key: value for key, value in content.items() if value is not None}
        (copy / file).write_text(json.dumps(content), encoding="utf-8")
        return copy

    return change


@pytest.fixture
def png(picture: torch.Tensor, tmp_path: Path) -> Path:
    """`picture` as a file."""
    file = tmp_path / "picture.png"
    Image.fromarray((picture[0] * 255).round().byte().numpy()).save(file)
    return file


@pytest.fixture
def counts_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fast` takes int8 for a small model, too."""
    monkeypatch.setattr(int8, "SMALL", 0)


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib cannot be imported."""
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
