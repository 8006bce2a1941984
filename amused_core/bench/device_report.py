"""The table of `amused bench --device`, and its checks."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ..errors import AmusedError, quoted
from ..files.markdown import table
from ..files.writing import write_text
from ..model.placement import device_named
from ..settings import VALUES, inputs
from .device import DTYPES, DevicePlan, device_name, device_rows


def device_bench(plan: DevicePlan, output: Path) -> int:
    """Measures `plan`, prints each row as it comes, and writes `device.md` into the folder `output`.

    Returns:
        1 where the tokens of both sides differ in fp32, otherwise 0.

    Raises:
        AmusedError: an option that is not allowed, or a device that cannot be used here.
    """
    _check(plan)
    rows = []
    for row in device_rows(plan):
        rows.append(row)
        print("  ".join(row.values()), file=sys.stderr, flush=True)
    import diffusers

    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    title = (
        f"{device_name(plan.device)}; {versions}; {plan.steps} steps, decoding included, medians of {plan.repeats} runs"
    )
    text = f"{title}\n\n{table(rows)}\n"
    write_text(output / "device.md", text)
    print(text)
    exact = [row["equal tokens"] for row in rows if row["dtype"] == "fp32" and row["side"] == "pack"]
    return int(any(share != "100.0%" for share in exact))


def _check(plan: DevicePlan) -> None:
    device_named(plan.device)
    for dtype in plan.dtypes:
        if dtype not in DTYPES:
            raise AmusedError(f"--dtypes is {quoted(dtype)}; allowed are {', '.join(DTYPES)}.")
    for batch in plan.batches:
        inputs.whole(batch, "--batches", 1, inputs.MAX_BATCH)
    VALUES["steps"].check(plan.steps, "--steps", 0)
    inputs.whole(plan.repeats, "--repeats", 1, 1000)
