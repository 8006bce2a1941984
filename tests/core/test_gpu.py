"""The same on a graphics card; these run where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from amused_core import load_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
RUN = {"steps": 4, "cfg": 3.0, "batch_size": 2, "seed": 3}


def test_tokens_are_those_of_the_cpu(folder: Path) -> None:
    """Per-image randomness comes from the CPU, so the device changes rounding only."""
    cpu, gpu = (load_model(folder, dtype="fp32", device=name).generate("a red cat", **RUN) for name in ("cpu", "cuda"))
    assert (cpu.tokens == gpu.tokens).float().mean() > 0.95


def test_a_new_seed_reuses_the_first_step(folder: Path) -> None:
    model = load_model(folder, dtype="fp32", device="cuda")
    model.generate("a red cat", **RUN)
    warm = model.generate("a red cat", **{**RUN, "seed": 9}).tokens
    model.reuse = False
    assert torch.equal(warm, model.generate("a red cat", **{**RUN, "seed": 9}).tokens)


def test_int8_says_that_it_is_for_cpus(folder: Path) -> None:
    model = load_model(folder, device="cuda")
    with pytest.raises(ValueError, match="int8 works in fp32 on a CPU only"):
        model.generate("a red cat", int8=True)
    assert model.generate("a red cat", fast=True).settings[0]["int8"] is False
