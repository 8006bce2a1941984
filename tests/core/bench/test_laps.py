"""Clock and memory of the bench."""

from __future__ import annotations

import time

import pytest
import torch

from amused_core.bench.laps import instead
from amused_core.bench.memory import Peak, high_water, resident


def test_a_method_comes_back() -> None:
    class Owner:
        def method(self) -> int:
            return 1

    owner = Owner()
    with pytest.raises(KeyError), instead(owner, "method", lambda: 2):
        assert owner.method() == 2
        raise KeyError
    assert owner.method() == 1 and vars(owner) == {}


@pytest.mark.skipif(resident() is None, reason="the system does not say how much memory is in use")
def test_the_peak_is_seen_although_it_is_over() -> None:
    size = 100_000_000
    with Peak() as memory:
        block = torch.ones(size, dtype=torch.uint8)
        time.sleep(0.1)
        del block
    assert memory.peak - memory.before >= 0.8 * size
    # Linux counts it from another, slightly coarser counter.
    assert high_water() >= 0.99 * memory.peak
