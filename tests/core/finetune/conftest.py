"""Fixtures of fine-tuning: tiny models to train, and runs on one picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from amused_core import AmusedModel, load_model
from amused_core.finetune.plan import TrainingPlan
from amused_core.finetune.prepare import prepare
from amused_core.finetune.run import TrainingRun
from amused_core.finetune.settings import TrainingSettings
from tests.core.finetune.runs import QUICK


@pytest.fixture(autouse=True)
def _train_extra() -> None:
    """Training needs the extra 'train'."""
    for package in ("peft", "accelerate"):
        pytest.importorskip(package, reason="the extra 'train' is not installed")


@pytest.fixture(autouse=True)
def one_thread():
    """The same sums in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def fresh(folder: Path) -> AmusedModel:
    """A tiny model to train: never the shared one, which training would change."""
    return load_model(folder)


@pytest.fixture
def run(folder: Path, png: Path, tmp_path: Path) -> Callable[..., TrainingRun]:
    """`run(output, settings)`: a run on one picture with a caption."""

    def make(output: str = "run", settings: TrainingSettings = QUICK, source: Path = png, **plan: Any) -> TrainingRun:
        where = TrainingPlan(source, plan.pop("caption", "a mushroom in flat style"), tmp_path / output, **plan)
        return prepare(load_model(folder), where, settings)

    return make
