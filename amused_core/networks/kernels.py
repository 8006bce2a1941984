"""What makes torch fast on a CPU: the fastest of its matrix products, found by trying, and memory that is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Of a layer of the real models: rows, inputs, outputs.
PROBE = (512, 1024, 1024)
ROUNDS = 8
# The largest piece of memory that glibc can be brought to keep when it is freed, less its own bookkeeping.
KEPT_BYTES = 31 * 2**20


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, in fp32 on a CPU by the faster of the two libraries torch has for it.

    torch takes MKL, which loses a tenth to a half to oneDNN on processors that are not Intel's. Results differ in
    rounding only. oneDNN's product has no backward, so where gradients are wanted it is torch's own choice; so it is in
    a graph that `torch.compile` makes, which knows oneDNN's for constant weights only.
    """
    if (
        not torch.compiler.is_compiling()
        and _plain(x)
        and _plain(weight)
        and not torch.is_grad_enabled()
        and onednn_pays()
    ):
        return _onednn(x, weight, bias)
    return F.linear(x, weight, bias)


def packed(weight: Tensor, rows: int) -> Tensor:
    """A copy of a weight fp32 [N,K] as the product of `linear` reads it best, with about `rows` rows of inputs."""
    return _onednn_packed(weight, rows) if onednn_pays() else weight.contiguous()


@cache
def onednn_pays() -> bool:
    """Whether oneDNN multiplies fp32 matrices at least 5 % faster than what torch takes; asked once, in 0.15 s.

    And in full precision: on some processors, and by some settings of torch, it works in bf16 or TF32.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    rows, inputs, outputs = PROBE
    x, weight = torch.ones(rows, inputs), torch.ones(outputs, inputs)
    try:
        with torch.no_grad():
            own, other = _race(lambda: F.linear(x, weight), lambda: _onednn(x, weight, None))
            return other < own * 0.95 and _onednn_is_exact()
    except (AttributeError, RuntimeError):  # This torch has no such product, or not here.
        return False


@cache
def keep_memory() -> None:
    """Lets the C library keep up to 64 MB of freed memory, instead of fetching it anew from the system in every layer.

    glibc returns at once what is larger than any piece that was freed before, which costs a step about a tenth of its
    time in page faults. It learns from what is freed, up to 32 MB; elsewhere this does nothing.
    """
    torch.empty(KEPT_BYTES, dtype=torch.uint8)


@cache
def bf16_pays() -> bool:
    """Whether this CPU multiplies bf16 matrices at least 1.5 times as fast as fp32 ones; many need twice the time."""
    rows, inputs, outputs = PROBE
    x, weight = torch.ones(rows, inputs), torch.ones(outputs, inputs)
    halves = x.bfloat16(), weight.bfloat16()
    with torch.no_grad():
        single, half = _race(lambda: linear(x, weight), lambda: F.linear(*halves))
    return half * 1.5 < single


def _plain(x: Tensor) -> bool:
    # A subclass (a quantised weight, a wrapper of another library) brings its own product.
    return type(x) in (Tensor, torch.nn.Parameter) and x.dtype is torch.float32 and x.device.type == "cpu"


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _onednn_packed(weight: Tensor, rows: int) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)


def _onednn_is_exact() -> bool:
    """Whether its products of whole numbers of 12 bits, whose sums fp32 holds in any order, are right."""
    x = torch.arange(64 * 1024).mul(7919).remainder(8191).sub(4095).view(64, 1024).float()
    weight = torch.arange(256 * 1024).mul(7907).remainder(10007).remainder(3).sub(1).view(256, 1024).float()
    product = (x.double() @ weight.double().T).float()
    return all(torch.equal(_onednn(x, form, None), product) for form in (weight, _onednn_packed(weight, len(x))))


def _race(*runs: Callable[[], Tensor]) -> list[float]:
    """Least seconds of each of `runs`, in turn; the first few calls of a process wait for fresh memory."""
    least = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for place, run in enumerate(runs):
            began = time.perf_counter()
            run()
            least[place] = min(least[place], time.perf_counter() - began)
    return least
