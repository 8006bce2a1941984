"""The `amused` command."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .batch.cli import add_batch, add_decode
from .bench.cli import add_bench
from .check.cli import add_check
from .errors import AmusedError
from .evaluation.cli import add_eval
from .finetune.cli import add_train
from .settings.options import add_settings, settings_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; refused input prints one sentence and returns 2, an interrupt returns 130."""
    options = _parser().parse_args(arguments)
    try:
        with _warnings_shown(), _enough_memory():
            return options.run(options)
    except AmusedError as error:
        print(f"amused: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        place = "" if error.filename is None else f": {error.filename}"
        print(f"amused: {error.strerror or error}{place}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("amused: stopped.", file=sys.stderr)
        return 130


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """What this package logs goes to stderr in the form of the command's other messages."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("amused: %(message)s"))
    logger = logging.getLogger(__package__)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _enough_memory(what: str = "") -> Iterator[None]:
    """A failed allocation, of which each device has an error of its own, becomes one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("out of memory|can't allocate memory", str(error)):
            raise
        raise AmusedError(f"Not enough memory{what}; take a smaller size or batch.") from error


def generate(options: argparse.Namespace) -> int:
    """`amused generate`: draws pictures and writes them as PNG."""
    from .files.tokens import save_tokens
    from .images.files import open_mask, open_picture, save_pictures
    from .model import load_model

    output = _file(options.output, "--output", ".png")
    tokens_file = _file(options.save_tokens, "--save-tokens", ".npy") if options.save_tokens else None
    image = open_picture(options.image) if options.image else None
    mask = open_mask(options.mask) if options.mask else None
    model = load_model(options.model, dtype=options.dtype, device=options.device, attention=options.attention)
    loras = {"loras": [_load_lora(model, item) for item in options.lora]} if options.lora else {}
    began = time.perf_counter()
    best = model.checkpoint.recommended
    size = image.size if image else (options.width or best.width, options.height or best.height)
    with _enough_memory(" for {}x{} pixels".format(*size)):
        result = model.generate(
            options.prompt,
            negative_prompt=options.negative,
            image=image,
            mask=mask,
            strength=options.strength,
            seed=options.seed,
            seeding=options.seeding,
            batch_size=options.batch,
            width=options.width,
            height=options.height,
            on_step=_show_step,
            keep_original=options.keep_original,
            fast=options.fast,
            compile=options.compile,
            **settings_of(options),
        )
    print(file=sys.stderr)
    common = {"model": model.checkpoint.name, **loras, **_sources(options)}
    about = [{**common, **item, **_place(item, i, len(result.images))} for i, item in enumerate(result.settings)]
    files = save_pictures(result.images, output, about)
    if tokens_file is not None:
        files.append(save_tokens(result.tokens, tokens_file))
    print(f"{', '.join(map(str, files))} ({time.perf_counter() - began:.1f} s)")
    return 0


def _sources(options: argparse.Namespace) -> dict[str, str]:
    """What a picture's metadata say of it beside the settings: number format, and names of the files it began with."""
    files = {"image": options.image, "mask": options.mask}
    return {"dtype": options.dtype, **{name: Path(file).name for name, file in files.items() if file}}


def _place(settings: dict[str, Any], place: int, batch: int) -> dict[str, int]:
    """With one random stream for a batch, a picture is drawn again only together with the others."""
    return {"batch_size": batch, "place": place} if settings["seeding"] == "diffusers" else {}


def save(options: argparse.Namespace) -> int:
    """`amused save`: copies a model into one `.safetensors` file, or into a folder."""
    from .checkpoint import open_checkpoint, save_checkpoint
    from .model.placement import DTYPES

    save_checkpoint(options.file, open_checkpoint(options.model, options.variant), DTYPES[options.dtype])
    print(options.file)
    return 0


def _load_lora(model: Any, text: str) -> dict[str, Any]:
    """Loads what `--lora` says; returns what the picture's metadata say of it."""
    from .lora.argument import split_lora

    path, strength = split_lora(text)
    lora = model.load_lora(path, strength)
    if warning := lora.warning():
        print(f"amused: {warning}", file=sys.stderr)
    return {"name": lora.name, "strength": strength}


def _show_step(step: Any) -> None:
    print(f"\rstep {step.index + 1}/{step.total}", end="", file=sys.stderr, flush=True)


def _file(name: str, option: str, ending: str) -> Path:
    if Path(name).suffix.lower() != ending:
        raise AmusedError(f"{option} is {name!r}; it must end in {ending}.")
    return Path(name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("amused", description="Masked-image generation with aMUSEd.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_generate(commands.add_parser("generate", help="text-to-image, image-to-image and inpainting"))
    add_batch(commands.add_parser("batch", help="generate the images of a table of prompts, resumable"))
    add_decode(commands.add_parser("decode", help="decode the tokens that amused batch kept"))
    _add_save(commands.add_parser("save", help="copy a model to a single .safetensors file or a folder"))
    add_check(commands.add_parser("check", help="check the files of a model, and the images it generates"))
    add_eval(commands.add_parser("eval", help="measure the accuracy and quality of a model, with any settings"))
    add_train(commands.add_parser("train", help="train a LoRA on one or more images, or a whole model"))
    add_bench(commands.add_parser("bench", help="compare speed and memory use with diffusers"))
    return parser


def _add_generate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("prompt", metavar="PROMPT", help="the prompt")
    add("--negative", default="", metavar="T", help="the negative prompt")
    add("--model", metavar="PATH", help="diffusers folder or .safetensors file (default: the embedded model)")
    add("--lora", action="append", metavar="FILE[:STRENGTH]", help="LoRA to apply; may be repeated")
    add(
        "--image",
        metavar="F",
        help="input image, for image-to-image and inpainting; the result has its size, and both sides must be "
        "multiples of the token size (16 pixels; 8 with the small model)",
    )
    add("--mask", metavar="F", help="mask for inpainting; white areas are regenerated")
    add(
        "--no-keep-original",
        dest="keep_original",
        action="store_false",
        help="with a mask: do not restore the original pixels outside of it, which decoding changes a little",
    )
    add(
        "--strength",
        type=float,
        metavar="X",
        help="how much of the image to regenerate, 0 to 1 (default: 0.5; with a mask: 1)",
    )
    add("--seed", type=int, default=0, metavar="N", help="random seed; image i of a batch uses N + i (default: 0)")
    add(
        "--seeding",
        default="per_image",
        metavar="per_image|diffusers",
        help="a seed per image, or one random stream per batch as in diffusers (default: per_image)",
    )
    add("--batch", type=int, default=1, metavar="N", help="images to generate (default: 1)")
    add("--width", type=int, metavar="W", help="in pixels (default: the model's native size)")
    add("--height", type=int, metavar="H", help="in pixels (default: the model's native size)")
    add("--fast", action="store_true", help="faster, with different tokens; see docs/speed.md")
    add("--compile", action="store_true", help="compile the model first (torch.compile); pays for many images on a GPU")
    add_settings(command)
    add("--dtype", default="auto", metavar="auto|fp32|fp16|bf16", help="precision of the U-ViT and the text encoder")
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="device to run on")
    add("--attention", default="auto", metavar="auto|sdpa|xformers", help="attention backend")
    add(
        "--output",
        default="amused.png",
        metavar="FILE.png",
        help="output file; a batch appends -0, -1, ... (default: amused.png)",
    )
    add("--save-tokens", metavar="FILE.npy", help="also save the tokens, int64 [B,h,w]")
    command.set_defaults(run=generate)


def _add_save(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("file", metavar="FILE.safetensors|FOLDER", help="the file to write, or a new folder in diffusers layout")
    add("--model", metavar="PATH", help="model to copy (default: the embedded model)")
    add("--variant", metavar="NAME", help="weight variant in a folder, such as fp16")
    add(
        "--dtype",
        default="auto",
        choices=("auto", "fp32", "fp16", "bf16"),
        help="precision of the copy (default: as stored)",
    )
    command.set_defaults(run=save)


if __name__ == "__main__":
    sys.exit(main())
