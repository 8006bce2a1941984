"""The arguments of `amused bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

STEPS, REPEATS = 12, 3
_REFERENCE = "diffusers runs, too, where this pack's run takes at most S CPU seconds (default: 30; 0: never)"


def add_bench(command: argparse.ArgumentParser) -> None:
    """Adds the options of `amused bench`. Importing this module loads nothing else."""
    add = command.add_argument
    add("--model", metavar="PATH", help="a folder or .safetensors file (default: the model that ships here)")
    add("--shape", metavar="256|512", help="random weights in the sizes of amused-256 or amused-512 instead")
    add("--steps", type=int, default=STEPS, metavar="N", help=f"steps a picture (default: {STEPS})")
    add("--measured-steps", type=int, metavar="N", help="run only N steps, compose the total (default: all)")
    add("--batch", type=int, default=1, metavar="N", help="pictures drawn at a time (default: 1)")
    add("--cfg", type=float, metavar="X", help="guidance; 1 is none (default: the model's own)")
    add("--dtype", default="fp32", metavar="fp32|bf16|fp16", help="of both sides' weights (default: fp32)")
    add("--mode", default="exact", metavar="exact|int8|fast", help="how generate runs (default: exact)")
    add("--seeding", metavar="per_image|diffusers", help="this pack's random numbers (default: diffusers' in exact)")
    add("--repeats", type=int, default=REPEATS, metavar="N", help=f"runs of each side (default: {REPEATS})")
    add("--threads", type=int, metavar="N", help="threads of torch (default: torch's own)")
    add("--seed", type=int, default=0, metavar="N", help="of weights and pictures (default: 0)")
    add("--only", metavar="pack|diffusers", help="one side alone, for its own peak memory")
    add("--output", default="bench", metavar="FOLDER", help="report, numbers, plot (default: bench)")
    add("--growth", action="store_true", help="measure how the cost grows with batch, size and steps instead")
    add("--batches", type=int, nargs="+", metavar="N", help="of --growth (default: 1 2 4 8)")
    add("--sizes", type=int, nargs="+", metavar="PX", help="of --growth (default: 16 to 64 tokens a side)")
    add("--step-counts", type=int, nargs="+", metavar="N", help="of --growth (default: 4 8 12 16 24)")
    add("--reference-below", type=float, default=30.0, metavar="S", help=f"of --growth: {_REFERENCE}")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """`amused bench`: measures and writes the report; 1 where exact mode did not give diffusers' pictures."""
    from .plan import BenchPlan
    from .runner import bench

    plan = BenchPlan(
        model=options.model,
        shape=options.shape,
        steps=options.steps,
        measured_steps=options.steps if options.measured_steps is None else options.measured_steps,
        batch=options.batch,
        cfg=options.cfg,
        dtype=options.dtype,
        mode=options.mode,
        seeding=options.seeding or ("diffusers" if options.mode == "exact" else "per_image"),
        repeats=options.repeats,
        threads=options.threads,
        seed=options.seed,
        only=options.only,
        output=Path(options.output),
        growth=options.growth,
        batches=options.batches,
        sizes=options.sizes,
        step_counts=options.step_counts,
        reference_below=options.reference_below,
    )
    return bench(plan)
