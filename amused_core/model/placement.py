"""Where a model computes, and in which dtype."""

from __future__ import annotations

import torch

from ..checkpoint import Checkpoint
from ..errors import AmusedError, quoted
from ..networks.kernels import bf16_pays

DTYPES = {"auto": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Weights from which on half precision matters: the embedded model stays far below, the real ones far above.
LARGE = 100_000_000
DEVICES = ("auto", "cpu", "cuda", "mps")


def dtype_named(name: str) -> torch.dtype | None:
    """The dtype of a name in `DTYPES`; None for "auto"."""
    if not isinstance(name, str) or name not in DTYPES:
        raise AmusedError(f"dtype is {quoted(name)}; allowed are {', '.join(DTYPES)}.")
    return DTYPES[name]


def cpu_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """fp32, or bf16 where the weights are halves anyway, and fast, and there are enough of them to matter."""
    weights = checkpoint.layout("transformer").values()
    halves = all(weight.dtype in (torch.float16, torch.bfloat16) for weight in weights)
    large = sum(weight.numel() for weight in weights) >= LARGE
    return torch.bfloat16 if halves and large and bf16_pays() else torch.float32


def device_named(device: str | torch.device) -> torch.device:
    """A device that works here; "auto" is the best there is."""
    name = str(device) if isinstance(device, (str, torch.device)) else ""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    if name.split(":")[0] not in DEVICES:
        raise AmusedError(f"device is {quoted(device)}; allowed are {', '.join(DEVICES)}.")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise AmusedError(f"device {quoted(name)} cannot be used here: {str(error).splitlines()[0]}") from error
