"""What a bench is to measure, and its checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ..errors import AmusedError
from ..sampling.randomness import SEEDINGS
from ..settings import VALUES, inputs

SHAPES = ("256", "512")
DTYPES = ("fp32", "fp16", "bf16")
MODES = ("exact", "int8", "fast")
SIDES = ("pack", "diffusers")


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    Attributes:
        model: path of a checkpoint; None is the model that ships here.
        shape: "256" or "512" for random weights of that size instead.
        steps, measured_steps: of a picture, and how many of them each run really takes.
        batch: pictures drawn at a time.
        cfg: guidance; None is the model's own.
        dtype, mode, seeding: names from `DTYPES`, `MODES` and `draws.SEEDINGS`.
        repeats: runs of each side.
        threads: of torch; None leaves them.
        seed: of random weights, and of the first picture.
        only: a name from `SIDES`; None is both.
        output: folder of the report.
        growth: measure `batches`, `sizes` (pixels) and `step_counts` instead; None is a default for each.
        reference_below: CPU seconds up to which diffusers is run as well at a point of the growth.
    """

    model: str | None
    shape: str | None
    steps: int
    measured_steps: int
    batch: int
    cfg: float | None
    dtype: str
    mode: str
    seeding: str
    repeats: int
    threads: int | None
    seed: int
    only: str | None
    output: Path
    growth: bool = False
    batches: list[int] | None = None
    sizes: list[int] | None = None
    step_counts: list[int] | None = None
    reference_below: float = 30.0

    @property
    def promised(self) -> bool:
        """Whether diffusers' own tokens must come out: in half precision the two sides round differently."""
        return self.mode == "exact" and self.dtype == "fp32" and self.seeding == "diffusers"


def check(plan: BenchPlan) -> None:
    """Raises `AmusedError` for an unknown name, and for a number out of range."""
    for option, value, allowed in (
        ("--shape", plan.shape, (None, *SHAPES)),
        ("--dtype", plan.dtype, DTYPES),
        ("--mode", plan.mode, MODES),
        ("--seeding", plan.seeding, SEEDINGS),
        ("--only", plan.only, (None, *SIDES)),
    ):
        if value not in allowed:
            raise AmusedError(f"{option} is {value!r}; allowed are {', '.join(filter(None, allowed))}.")
    if plan.mode == "fast" and (plan.growth or plan.measured_steps != plan.steps):
        raise AmusedError("--mode fast has steps of its own; leave --measured-steps and --growth out.")
    if plan.shape is not None and plan.model is not None:
        raise AmusedError(f"--shape is {plan.shape!r} and --model {plan.model!r}; only one of them can be given.")
    if plan.growth and plan.only is not None:
        raise AmusedError(f"--only is {plan.only!r}, but --growth always measures this pack; leave one of them out.")
    VALUES["steps"].check(plan.steps, "--steps", 0)
    inputs.whole(plan.measured_steps, "--measured-steps", 1, plan.steps)
    inputs.whole(plan.batch, "--batch", 1, inputs.MAX_BATCH)
    inputs.whole(plan.repeats, "--repeats", 1, 1000)
    inputs.whole(1 if plan.threads is None else plan.threads, "--threads", 1, 1024)
    inputs.whole(plan.seed, "--seed", 0, 2**32 - 1)
    VALUES["cfg"].check(1.0 if plan.cfg is None else plan.cfg, "--cfg", 0)
    inputs.number(plan.reference_below, "--reference-below", 0, math.inf)
    for value in plan.batches or ():
        inputs.whole(value, "--batches", 1, inputs.MAX_BATCH)
    if plan.measured_steps == 1 < plan.steps and (plan.growth or plan.batch > 1):
        # In the first step all pictures of a prompt are alike, and this pack works it out for one of them.
        raise AmusedError(
            f"--measured-steps is 1; allowed with several images are 2 to {plan.steps}, since the first step says "
            "nothing of the later ones."
        )
    for value in plan.step_counts or ():
        VALUES["steps"].check(value, "--step-counts", 0)
