"""The arguments of `amused eval`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import AmusedError
from ..settings.options import add_settings, settings_of

QUICK, FULL = 100, 500


def add_eval(command: argparse.ArgumentParser) -> None:
    """Adds the options of `amused eval`. Importing this module loads nothing else."""
    add = command.add_argument
    add("--model", metavar="PATH", help="diffusers folder or .safetensors file (default: the embedded model)")
    add("--lora", action="append", metavar="FILE[:STRENGTH]", help="LoRA to apply; may be repeated")
    add(
        "--output",
        default="evaluation",
        metavar="FOLDER",
        help="folder for report, tables, plot and images (default: evaluation)",
    )
    add("--full", action="store_true", help=f"{FULL} images per cell instead of {QUICK}")
    add("--count", type=int, metavar="N", help="images per cell")
    add(
        "--sets",
        nargs="+",
        metavar="SET",
        help="prompt sets: seen, combinations, wordings, relations, vague (default: all)",
    )
    add(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="text, reconstruction, inpainting, variation, diversity (default: all; only text if several settings are "
        "compared)",
    )
    add("--fast", action="store_true", help="use the fast mode of generate in every cell")
    add_settings(command, several=True)
    add("--passes", nargs="+", type=int, metavar="N", help="forward passes per image, in place of --steps; needs --cfg")
    add("--seed", type=int, default=0, metavar="N", help="random seed of the prompts and the first image (default: 0)")
    add("--batch", type=int, default=25, metavar="N", help="batch size (default: 25)")
    add("--reference", metavar="diffusers", help="also run the diffusers pipeline on the same prompts")
    add("--dtype", default="auto", metavar="auto|fp32|fp16|bf16", help="precision of the U-ViT and the text encoder")
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="device to run on")
    add("--attention", default="auto", metavar="auto|sdpa|xformers", help="attention backend")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """`amused eval`: measures a model and writes the report."""
    from ..lora.argument import split_lora
    from .cells import in_passes, sweep
    from .plan import EvaluationPlan
    from .prompts import SETS
    from .questions import VAGUE
    from .runner import evaluate
    from .tasks import TASKS

    if options.reference not in (None, "diffusers"):
        raise AmusedError(f"--reference is {options.reference!r}; allowed is 'diffusers'.")
    fast = {"fast": True} if options.fast else {}
    choices = {name: value if isinstance(value, list) else [value] for name, value in settings_of(options).items()}
    cells = sweep(choices)
    settings = [{**cell, **fast} for cell in (in_passes(cells, options.passes) if options.passes else cells)]
    tasks = options.tasks or (["text"] if len(settings) > 1 else list(TASKS))
    plan = EvaluationPlan(
        model=options.model,
        output=Path(options.output),
        sets=list(dict.fromkeys(options.sets or (*SETS, VAGUE))),
        tasks=list(dict.fromkeys(tasks)),
        count=(FULL if options.full else QUICK) if options.count is None else options.count,
        settings=settings,
        seed=options.seed,
        batch=options.batch,
        reference=options.reference is not None,
        loras=tuple(split_lora(item) for item in options.lora or ()),
        load={"dtype": options.dtype, "device": options.device, "attention": options.attention},
    )
    print(evaluate(plan))
    return 0
