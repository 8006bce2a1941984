"""A model whose LoRAs are unloaded after each test."""

from __future__ import annotations

import pytest

from amused_core import load_model


@pytest.fixture(scope="module")
def shared(folder):
    """A model of this file's own; every test leaves it as it was."""
    return load_model(folder, device="cpu")


@pytest.fixture
def model(shared):
    yield shared
    shared.unload_loras()
