"""The run of `amused bench`: measures what the plan says, prints a table and writes the report."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from ..checkpoint import Checkpoint
from ..files.writing import write_text
from ..settings import FAST, inputs
from .contenders import Contenders, Diffusers, Pack, Workload
from .growth import grow, report_progress
from .machine import describe, gemm, layer_shapes, load, threads
from .measure import FreshPrompts, equality, first_run, measure, summary
from .memory import high_water
from .plan import BenchPlan, check
from .plot import save_growth, save_parts
from .report import as_markdown
from .weights import shared_checkpoint

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def bench(plan: BenchPlan) -> int:
    """Measures `plan` and writes report (Markdown, JSON) and plot; see `cli.add_bench`.

    Returns:
        1 where diffusers' own tokens and pictures had to come out and did not, otherwise 0.

    Raises:
        AmusedError: an option that is not allowed, or a checkpoint that cannot be loaded.
    """
    check(plan)
    with threads(plan.threads):
        checkpoint = shared_checkpoint(plan.model, plan.shape, plan.seed, _DTYPES[plan.dtype])
        for size in plan.sizes or ():
            inputs.side(size, "--sizes", checkpoint.factor)
        workload = _workload(plan, checkpoint)
        report_progress(f"loading {checkpoint.name}")
        content = _about(plan, checkpoint, workload)
        contenders = _contenders(plan, checkpoint)
        if plan.growth:
            content["growth"] = grow(plan, checkpoint, contenders, workload)
        else:
            content |= _compare(plan, contenders, workload)
        content["machine"]["load_after"] = load()
        content["high_water"] = high_water()
    name = "growth" if plan.growth else "report"
    text = as_markdown(content)
    write_text(plan.output / f"{name}.json", json.dumps(content, indent=1) + "\n")
    write_text(plan.output / f"{name}.md", text)
    missing = (save_growth if plan.growth else save_parts)(plan.output / f"{name}.png", content)
    print(text + f"\n{plan.output / name}.md, .json{'' if missing else ', .png'}")
    if missing:
        print(missing, file=sys.stderr)
    return _verdict(content)


def _workload(plan: BenchPlan, checkpoint: Checkpoint) -> Workload:
    best = checkpoint.recommended
    return Workload(
        prompt="",
        negative="",
        seed=plan.seed,
        steps=plan.measured_steps,
        batch=plan.batch,
        width=best.width,
        height=best.height,
        cfg=best.cfg if plan.cfg is None else plan.cfg,
        temperature=best.temperature,
    )


def _contenders(plan: BenchPlan, checkpoint: Checkpoint) -> Contenders:
    """Both, or the one that `plan.only` names."""
    dtype = _DTYPES[plan.dtype]
    diffusers = None if plan.only == "pack" else Diffusers(checkpoint, dtype)
    pack = None if plan.only == "diffusers" else Pack(checkpoint, dtype, plan.seeding, plan.mode)
    return Contenders(pack, diffusers)


def _about(plan: BenchPlan, checkpoint: Checkpoint, workload: Workload) -> dict[str, Any]:
    states = [checkpoint.layout(part) for part in ("transformer", "text_encoder", "vqvae")]
    weights = [value for state in states for value in state.values()]
    side = workload.width // checkpoint.factor
    shapes = layer_shapes(checkpoint.transformer_config, (1 if workload.cfg <= 1 else 2) * workload.batch, side)
    report_progress("measuring matrix products")
    names = dict.fromkeys(("fp32", plan.dtype))
    return {
        "machine": describe(),
        "model": {
            "name": checkpoint.name,
            "parameters": sum(value.numel() for value in weights),
            "bytes": sum(value.numel() * value.element_size() for value in weights),
        },
        "settings": {
            "steps": plan.steps,
            "measured_steps": plan.measured_steps,
            "batch": workload.batch,
            "width": workload.width,
            "height": workload.height,
            "cfg": workload.cfg,
            "temperature": list(workload.temperature),
            "schedule": checkpoint.recommended.schedule,
            "dtype": plan.dtype,
            "mode": plan.mode,
            "seeding": plan.seeding,
            "repeats": plan.repeats,
            "seed": plan.seed,
            "only": plan.only,
        },
        "gemm": {name: gemm(shapes, _DTYPES[name]) for name in names},
    }


def _compare(plan: BenchPlan, contenders: Contenders, workload: Workload) -> dict[str, Any]:
    report_progress(f"{plan.repeats} x {plan.measured_steps} steps of each side")
    runs = measure(contenders, workload, plan.repeats, FreshPrompts())
    return {
        "sides": summary(runs.sides, plan.steps, plan.measured_steps, FAST["steps"] if plan.mode == "fast" else None),
        "flop": runs.flop,
        "first_run": first_run(runs.first),
        "equal": equality(runs.sides) if plan.seeding == "diffusers" else None,
        "promised": plan.promised,
    }


def _verdict(content: dict[str, Any]) -> int:
    """1 for a broken promise: tokens that differ, or pictures more than one 8-bit level apart."""
    results = content.get("growth") or content
    compared = [point.get("equal") for point in results["points"]] if "points" in results else [results["equal"]]
    broken = [equal for equal in compared if equal and (equal["tokens"] < 1 or (equal["levels"] or 0) > 1)]
    return 1 if results["promised"] and broken else 0
