"""The tests of the small world's training need the extra 'train'."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _train_extra(request: pytest.FixtureRequest) -> None:
    """Scenes are part of the package, their training is not."""
    if request.path.name != "test_scenes.py":
        pytest.importorskip("tqdm", reason="the extra 'train' is not installed")
