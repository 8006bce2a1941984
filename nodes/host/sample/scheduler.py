"""Schedules: SIGMAS that are falling mask ratios."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....amused_core.errors import AmusedError
from ....amused_core.sampling.schedule import mask_ratios, start_step
from .. import guards
from ..model.model_sampling import AmusedModelSampling


def amused_scheduler(model_sampling: Any, steps: int) -> Tensor:
    """The scheduler "amused" of the stock nodes: the checkpoint's own masking schedule, float32 [steps+1]."""
    if node := guards.sampling_node(model_sampling):
        raise AmusedError(
            f"The scheduler 'amused' is for aMUSEd models only, and the node {node!r} replaces the "
            "sampling of the MODEL. Remove it from the graph, or choose another scheduler."
        )
    if not isinstance(model_sampling, AmusedModelSampling):
        raise AmusedError(
            "The scheduler 'amused' is for aMUSEd models only; choose another, or connect the MODEL of 'Load aMUSEd'."
        )
    # For a denoise of 0.1 ComfyUI asks for ten times the steps, and takes the last ones.
    return mask_ratios(steps, model_sampling.schedule, limit=steps)


def amused_sigmas(model: Any, schedule: str, steps: int, denoise: float) -> Tensor:
    """Mask ratios of the last `denoise` of a schedule ("auto": the checkpoint's); none for a denoise of 0."""
    info = guards.amused_model(model).info
    name = info.schedule if schedule == "auto" else schedule
    start = start_step(steps, denoise)
    return mask_ratios(steps, name, start) if denoise > 0 else torch.empty(0)
