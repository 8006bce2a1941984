"""Tiny checkpoints in both shapes, loaded by diffusers and by us."""

from __future__ import annotations

import pytest

from tests.parity.oracle import SHAPES, Oracle


@pytest.fixture(scope="session", autouse=True)
def _no_bars():
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


@pytest.fixture(scope="session", params=list(SHAPES))
def oracle(request, tmp_path_factory) -> Oracle:
    """Both shapes, one after the other."""
    return Oracle(tmp_path_factory.mktemp(request.param) / "model", SHAPES[request.param])


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Oracle:
    """The 256 shape alone, for what does not depend on the shape."""
    return Oracle(tmp_path_factory.mktemp("small") / "model", False)
