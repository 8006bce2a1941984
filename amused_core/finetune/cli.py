"""The arguments of `amused train`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import AmusedError


def add_train(command: argparse.ArgumentParser) -> None:
    """Adds `amused train lora` and `amused train full`. Importing this module loads nothing else."""
    kinds = command.add_subparsers(required=True, metavar="KIND")
    _add_kind(kinds.add_parser("lora", help="a small file of weight changes, such as a style from one image"))
    _add_kind(kinds.add_parser("full", help="all weights; writes a new model folder"), full=True)


def _add_kind(command: argparse.ArgumentParser, full: bool = False) -> None:
    # After --prior-prompts, argparse takes DATA for one more of them.
    command.usage = "%(prog)s DATA --output FOLDER [options]"
    add = command.add_argument
    presets = "full, full-8bit (default: full)" if full else "style, dataset (default: style)"
    add("data", metavar="DATA", help="an image, a folder of images with .txt or .caption files, or a .jsonl file")
    add("--caption", metavar="T", help="caption for images without a caption file")
    add("--output", required=True, metavar="FOLDER", help="output folder; an unfinished run in it is resumed")
    add("--model", metavar="PATH", help="diffusers folder or .safetensors file (default: the embedded model)")
    add("--preset", default="full" if full else "style", metavar="NAME", help=presets)
    add("--steps", type=int, metavar="N", help="training steps (default: the preset's value, as for the options below)")
    add("--learning-rate", type=float, metavar="X", help="peak learning rate")
    add("--batch", type=int, metavar="N", help="batch size per device")
    add("--accumulation", type=int, metavar="N", help="gradient accumulation: batches per update")
    add("--warmup", type=int, metavar="N", help="warm-up steps")
    add("--lr-schedule", metavar="constant|cosine", help="learning rate schedule; cosine decays to 0")
    if not full:
        add("--rank", type=int, metavar="N", help="rank of the LoRA")
        add("--alpha", type=float, metavar="X", help="alpha of the LoRA, which is scaled by alpha / rank")
        add("--targets", nargs="+", metavar="LAYER", help="U-ViT layers to train, such as to_q to_k to_v to_out.0")
        add("--text-targets", nargs="+", metavar="LAYER", help="text encoder layers to train")
    add("--text-encoder", action="store_true", default=None, help="also train the text encoder")
    add("--drop-text", type=float, metavar="X", help="probability of dropping the caption, for guidance")
    add("--regions", type=float, metavar="X", help="fraction of masks that are one rectangle, for inpainting")
    add("--label-smoothing", type=float, metavar="X", help="label smoothing of the cross entropy")
    add("--ema", type=float, metavar="X", help="decay of the averaged weights (EMA); 0: off")
    add(
        "--prior-prompts",
        nargs="+",
        metavar="T",
        help="prompts for prior preservation: images the model should keep generating as before",
    )
    add("--prior-count", type=int, metavar="N", help="number of prior images to generate before training")
    add("--prior-weight", type=float, metavar="X", help="weight of the prior loss")
    add("--gradient-checkpointing", action="store_true", default=None, help="less memory, a third more time")
    add("--optimizer", metavar="adamw|adamw8bit", help="adamw8bit needs bitsandbytes")
    add("--precision", metavar="fp32|bf16|fp16", help="compute precision (default: fp32)")
    add("--seed", type=int, metavar="N", help="random seed (default: 0)")
    add(
        "--width",
        type=int,
        metavar="W",
        help="size of the training images in pixels (default: the model's native size)",
    )
    add(
        "--height",
        type=int,
        metavar="H",
        help="size of the training images in pixels (default: the model's native size)",
    )
    add("--save-every", type=int, default=100, metavar="N", help="steps between saved training states (default: 100)")
    add("--sample-every", type=int, default=0, metavar="N", help="steps between sample sheets (default: none)")
    add(
        "--sample-prompts",
        nargs="+",
        default=(),
        metavar="T",
        help="prompts of the sample sheets (default: the captions)",
    )
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="device to run on")
    command.set_defaults(run=run, kind="full" if full else "lora")


def run(options: argparse.Namespace) -> int:
    """`amused train`: trains and says where the result is."""
    from ..model import load_model
    from .plan import TrainingPlan
    from .prepare import prepare
    from .presets import PRESETS, preset
    from .settings import SETTING_NAMES

    for name, low in (("save_every", 1), ("sample_every", 0)):
        if getattr(options, name) < low:
            raise AmusedError(
                f"--{name.replace('_', '-')} is {getattr(options, name)}; allowed are numbers from {low}."
            )
    names = [name for name, sizes in PRESETS.items() if next(iter(sizes.values())).get("kind", "lora") == options.kind]
    if options.preset not in names:
        raise AmusedError(f"--preset is {options.preset!r}; for {options.kind!r} allowed are {', '.join(names)}.")
    model = load_model(options.model, dtype="fp32", device=options.device)
    changes: dict[str, Any] = {name: getattr(options, name, None) for name in SETTING_NAMES if name != "kind"}
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    settings = preset(options.preset, model.checkpoint.transformer_config, **changes)
    plan = TrainingPlan(
        Path(options.data), options.caption, Path(options.output), options.save_every, options.sample_every,
        tuple(options.sample_prompts), options.width, options.height,
    )  # fmt: skip
    training = prepare(model, plan, settings)
    if training.main:
        print(training.report.text(), file=sys.stderr)
    began, start = time.perf_counter(), len(training.trainer.losses)

    def show(done: int, loss: float) -> None:
        if training.main:
            left = (time.perf_counter() - began) / (done - start) * (settings.steps - done)
            print(f"\rstep {done}/{settings.steps}, loss {loss:.3f}, {left:.0f} s left   ", end="", file=sys.stderr)
        if interrupts:
            raise KeyboardInterrupt

    try:
        with _after_the_step() as interrupts:
            path = training.train(show)
    finally:
        print(file=sys.stderr)
    if training.main:
        print(f"{path} ({len(training.trainer.losses) - start} steps, {time.perf_counter() - began:.1f} s)")
    return 0


@contextmanager
def _after_the_step() -> Iterator[list[int]]:
    """Ctrl-C only adds to the list, so that a step comes to its end and the state can be saved; a second stops it."""
    interrupts: list[int] = []

    def note(number: int, _: Any) -> None:
        interrupts.append(number)
        if len(interrupts) > 1:
            raise KeyboardInterrupt
        print("\namused: stopping after this step; Ctrl-C again stops at once.", file=sys.stderr)

    if threading.current_thread() is not threading.main_thread():  # Others cannot set handlers, and get no Ctrl-C.
        yield interrupts
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
