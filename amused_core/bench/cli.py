"""The arguments of `amused bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

STEPS, REPEATS = 12, 3
_REFERENCE = "also run diffusers where this pack takes at most S CPU seconds (default: 30; 0: never)"


def add_bench(command: argparse.ArgumentParser) -> None:
    """Adds the options of `amused bench`. Importing this module loads nothing else."""
    add = command.add_argument
    add("--model", metavar="PATH", help="diffusers folder or .safetensors file (default: the embedded model)")
    add("--shape", metavar="256|512", help="use random weights of the shape of amused-256 or amused-512")
    add("--steps", type=int, default=STEPS, metavar="N", help=f"steps per image (default: {STEPS})")
    add(
        "--measured-steps",
        type=int,
        metavar="N",
        help="run only N steps and compose the total from them (default: all)",
    )
    add("--batch", type=int, default=1, metavar="N", help="batch size (default: 1)")
    add(
        "--cfg", type=float, metavar="X", help="guidance scale; 1 turns it off (default: the model's recommended value)"
    )
    add(
        "--dtype",
        default="fp32",
        metavar="fp32|bf16|fp16",
        help="precision of the weights on both sides (default: fp32)",
    )
    add("--mode", default="exact", metavar="exact|int8|fast", help="mode of generate (default: exact)")
    add("--seeding", metavar="per_image|diffusers", help="seeding of this pack (default: diffusers in exact mode)")
    add("--repeats", type=int, default=REPEATS, metavar="N", help=f"runs per side (default: {REPEATS})")
    add("--device", metavar="cuda|mps", help="measure on this device, in several dtypes and batch sizes, compiled too")
    add("--dtypes", nargs="+", metavar="NAME", help="dtypes of --device (default: fp32 fp16 bf16)")
    add("--no-compile", action="store_true", help="with --device: leave torch.compile out")
    add("--threads", type=int, metavar="N", help="torch threads (default: torch's default)")
    add("--seed", type=int, default=0, metavar="N", help="random seed of weights and images (default: 0)")
    add("--only", metavar="pack|diffusers", help="run one side alone, to measure its peak memory")
    add("--output", default="bench", metavar="FOLDER", help="folder for report, numbers and plot (default: bench)")
    add("--growth", action="store_true", help="measure how the cost scales with batch size, image size and steps")
    add(
        "--batches",
        type=int,
        nargs="+",
        metavar="N",
        help="batch sizes of --growth (default: 1 2 4 8) or --device (1 8 32)",
    )
    add(
        "--sizes", type=int, nargs="+", metavar="PX", help="image sizes of --growth (default: 16 to 64 tokens per side)"
    )
    add("--step-counts", type=int, nargs="+", metavar="N", help="numbers of steps of --growth (default: 4 8 12 16 24)")
    add("--reference-below", type=float, default=30.0, metavar="S", help=f"with --growth, {_REFERENCE}")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """`amused bench`: measures and writes the report; 1 where exact mode did not give diffusers' pictures."""
    if options.device is not None:
        return _run_on_device(options)
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


def _run_on_device(options: argparse.Namespace) -> int:
    """`amused bench --device`: prints the table row by row, and writes it to `device.md`."""
    from .device import DTYPES, DevicePlan
    from .device_report import device_bench

    plan = DevicePlan(
        device=options.device,
        model=options.model,
        shapes=() if options.shape is None else (options.shape,),
        dtypes=options.dtypes or tuple(DTYPES),
        batches=options.batches or (1, 8, 32),
        steps=options.steps,
        repeats=options.repeats,
        compiled=not options.no_compile,
    )
    return device_bench(plan, Path(options.output))
