"""The bench in a hurry: matrix products are measured once instead of for a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _hurry() -> Iterator[None]:
    """Matrix products are measured once instead of for a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amused_core.bench.machine._SECONDS", 0)
        patch.setattr("amused_core.bench.machine._TIMES", 1)
        yield
