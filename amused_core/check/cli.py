"""The arguments of `amused check`."""

from __future__ import annotations

import argparse


def add_check(command: argparse.ArgumentParser) -> None:
    """Adds the options of `amused check`. Importing this module loads nothing else."""
    add = command.add_argument
    add("path", nargs="?", metavar="PATH", help="diffusers folder or .safetensors file (default: the embedded model)")
    add("--variant", metavar="NAME", help="weight variant in a folder, such as fp16")
    add("--device", default="cpu", metavar="auto|cpu|cuda|mps", help="device for the golden image (default: cpu)")
    add("--files-only", action="store_true", help="check configs and weights, generate no image")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """`amused check`: prints a table; 1 if a check failed."""
    from .runner import check

    return check(options.path, options.variant, options.device, options.files_only)
