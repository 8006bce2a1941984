"""The machine: what it is, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..networks.kernels import linear
from ..networks.uvit.config import UVitConfig

_CPUINFO = Path("/proc/cpuinfo")
_SECONDS, _TIMES = 0.3, 3


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """torch with `count` threads; None leaves them."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe() -> dict[str, Any]:
    """CPU, its cores and matrix units, versions, threads, and how busy the machine is."""
    import diffusers

    facts = _cpuinfo()
    flags = set(facts.get("flags", "").split())
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "amx": "amx_tile" in flags if flags else None,
        "avx512_bf16": "avx512_bf16" in flags if flags else None,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "threads": torch.get_num_threads(),
        "load": load(),
    }


def load() -> float | None:
    """Mean number of runnable processes during the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def layer_shapes(config: UVitConfig, rows: int, side: int) -> list[tuple[int, int, int]]:
    """(m, k, n) of the trunk's matrix products, for `rows` grids of `side` tokens a side."""
    tokens = rows * ((side + 1) // 2 if config.downsample else side) ** 2
    hidden, inner = config.hidden_size, config.intermediate_size
    return [(tokens, hidden, hidden), (tokens, hidden, 2 * inner), (tokens, inner, hidden)]


def gemm(shapes: list[tuple[int, int, int]], dtype: torch.dtype) -> dict[str, Any]:
    """Matrix products per CPU second: the best of several for each shape, and the best of all ("peak"), in GFLOP/s.

    In fp32 by whichever of torch's libraries is the faster one here; diffusers' own `F.linear` may be far below it.
    """
    generator = torch.Generator().manual_seed(0)
    rows = []
    for m, k, n in shapes:
        x = torch.randn(m, k, generator=generator).to(dtype)
        weight = torch.randn(n, k, generator=generator).to(dtype)
        rows.append({"m": m, "k": k, "n": n, "gflops": 2e-9 * m * k * n / _best(x, weight)})
    return {"shapes": rows, "peak": max(row["gflops"] for row in rows)}


@torch.no_grad()
def _best(x: torch.Tensor, weight: torch.Tensor) -> float:
    """CPU seconds of one product; short ones are taken several at a time, since the clock is coarse."""
    linear(x, weight)
    began = time.process_time()
    linear(x, weight)
    count = max(1, int(0.02 / max(time.process_time() - began, 1e-6)))
    best, spent, done = float("inf"), 0.0, 0
    while spent < _SECONDS or done < _TIMES:
        began = time.process_time()
        for _ in range(count):
            linear(x, weight)
        taken = time.process_time() - began
        best, spent, done = min(best, taken / count), spent + taken, done + 1
    return best


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first core."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
