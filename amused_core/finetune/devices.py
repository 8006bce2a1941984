"""accelerate: devices, half precision, accumulation of gradients."""

from __future__ import annotations

from typing import Any

from ..errors import AmusedError
from .adapters import missing_package


def make_accelerator(precision: str, accumulation: int, cpu: bool) -> Any:
    """An `Accelerator`; `cpu` keeps it from any other device.

    Raises:
        AmusedError: accelerate is not installed, or the device cannot compute in this precision.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError:
        raise missing_package("accelerate") from None
    if AcceleratorState._shared_state:  # of an earlier run in this process, maybe in another precision
        AcceleratorState._reset_state(reset_partial_state=True)
    name = {"fp32": "no"}.get(precision, precision)
    try:
        made = Accelerator(cpu=cpu, mixed_precision=name, gradient_accumulation_steps=accumulation)
    except ValueError as error:
        raise AmusedError(f"precision is {precision!r}, which does not work here: {error}") from error
    if precision == "fp16" and made.device.type == "cpu":
        raise AmusedError("precision is 'fp16', which a CPU cannot train in; allowed there are fp32 and bf16.")
    return made
