"""The same on a graphics card; these run where there is one."""

from __future__ import annotations

import warnings
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
    assert torch.equal(warm, model.generate("a red cat", **{**RUN, "seed": 9}, reuse=False).tokens)


@pytest.mark.usefixtures("counts_as_large")
def test_int8_says_that_it_is_for_cpus(folder: Path) -> None:
    model = load_model(folder, device="cuda")
    with pytest.raises(ValueError, match="int8 works in fp32 on a CPU only"):
        model.generate("a red cat", int8=True)
    assert model.generate("a red cat", fast=True).settings[0]["int8"] is False


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
def test_the_host_waits_once_a_step(folder: Path, seeding: str) -> None:
    model, waits = load_model(folder, dtype="fp32", device="cuda"), []
    settings = {**RUN, "steps": 6, "seeding": seeding, "top_k": 20}
    model.generate("a red cat", **settings)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            model.generate("a red cat", **settings, on_step=lambda step: waits.append(len(seen)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert waits[0] > 0, "waiting is not seen"
    assert all(after - before <= 1 for before, after in zip(waits, waits[1:], strict=False))


def test_half_precision_decoding_is_close() -> None:
    model = load_model(device="cuda")
    tokens = model.generate("a cat on a red background", **RUN).tokens
    exact, half = (model.vq.decode(tokens, half=half) for half in (False, True))
    assert (exact - half).abs().max() < 3 / 255 and not torch.equal(exact, half)
