"""All checks of a checkpoint, one after the other."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator

import torch

from ..checkpoint import Checkpoint, open_checkpoint
from ..errors import AmusedError
from ..model import load_model
from ..model.placement import device_named
from .configs import config_findings
from .findings import Finding, findings_table
from .images import golden_finding, reference_finding, stored_dtype
from .summary import short_form
from .weights import weight_findings


def check(path: str | None, variant: str | None, device: str, files_only: bool) -> int:
    """Prints what was found at `path` (None: the embedded model) as a table; 0, or 1 if a check failed.

    Raises:
        CheckpointError: nothing there that could be checked.
        AmusedError: `device` is unknown or cannot be used here.
    """
    where = device_named(device)
    checkpoint = open_checkpoint(path, variant)
    print(f"{short_form(checkpoint)}\n")
    findings = list(_findings(checkpoint, path, variant, where, files_only))
    print(findings_table(findings))
    print(f"\ntorch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, device {where}")
    return int(any(finding.passed is False for finding in findings))


def _findings(
    checkpoint: Checkpoint, path: str | None, variant: str | None, device: torch.device, files_only: bool
) -> Iterator[Finding]:
    yield from config_findings(checkpoint)
    weights = weight_findings(checkpoint)
    yield from weights
    if files_only or not all(finding.passed for finding in weights):
        why = "not asked for" if files_only else "the weights cannot be loaded"
        yield Finding("images", None, why)
        return
    half = stored_dtype(checkpoint) == torch.float16 and device.type != "cpu"

    def golden() -> Finding:
        return golden_finding(load_model(path, variant, "fp16" if half else "fp32", device))

    def reference() -> Finding:
        return reference_finding(checkpoint, load_model(path, variant, "fp32", "cpu"), torch.float32)

    yield _tried("golden image", golden)
    yield _tried("diffusers' tokens", reference)


def _tried(name: str, run: Callable[[], Finding]) -> Finding:
    try:
        return run()
    except AmusedError as error:
        return Finding(name, False, str(error))
