"""The arguments of `amused batch` and `amused decode`."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import AmusedError


def add_batch(command: argparse.ArgumentParser) -> None:
    """Adds the options of `amused batch`. Importing this module loads nothing else."""
    command.usage = "%(prog)s ROWS OUT [options]"  # after --set, argparse takes the two for more of its values
    add = command.add_argument
    add("rows", metavar="ROWS", help="a .jsonl, .csv, .tsv, .parquet or .txt file (a prompt a line), or its URL")
    _add_output(command)
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="values for rows that lack them, such as steps=8",
    )
    add(
        "--grid",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=A,B",
        help="values to combine: each row is generated with every combination",
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="base seed; a row without a seed gets one derived from N and its id (default: 0)",
    )
    add(
        "--lora",
        action="append",
        metavar="FILE[:STRENGTH]",
        help="LoRA for rows without one, relative to the folder of ROWS; may be repeated",
    )
    add(
        "--name",
        metavar="TEMPLATE",
        help="file names: {id}, {number}, {row}, {copy}, {seed} or a column (default: {id})",
    )
    add("--layout", metavar="geneval|hpsv2", help="folder layout of a benchmark")
    add(
        "--tokens",
        nargs="?",
        default="no",
        const="also",
        metavar="only",
        help="also save the tokens; 'only' saves no images",
    )
    add("--dry-run", action="store_true", help="print what the job would do and write nothing")
    add("--ray", nargs="?", const="", metavar="ADDRESS", help="run on a Ray cluster, or on a local Ray instance")
    add("--workers", type=int, metavar="N", help="number of workers with --ray (default: one per GPU, or one per CPU)")
    command.set_defaults(run=run)


def add_decode(command: argparse.ArgumentParser) -> None:
    """Adds the options of `amused decode`."""
    command.usage = "%(prog)s SOURCE OUT [options]"
    command.add_argument("source", metavar="SOURCE", help="a folder written by amused batch --tokens, or a .npy file")
    _add_output(command)
    command.set_defaults(run=decode)


def _add_output(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("out", metavar="OUT", help="the output folder or its URL, such as s3://bucket/folder")
    add("--model", metavar="PATH", help="diffusers folder or .safetensors file (default: the embedded model)")
    add("--format", default="files", metavar="files|webdataset|parquet", help="output format (default: files)")
    add("--batch", default="auto", metavar="N", help="batch size (default: auto, as memory allows)")
    add("--part", type=int, metavar="N", help="images per tar or Parquet file, and per unit that --shard distributes")
    add("--shard", default="0/1", metavar="I/N", help="generate shard I of N, counted from 0")
    add("--retry-errors", action="store_true", help="retry images that failed")
    add("--overwrite", action="store_true", help="remove files of another job from OUT")
    add("--unlock", action="store_true", help="ignore the lock that a terminated process left at a URL")
    add("--dtype", default="auto", metavar="auto|fp32|fp16|bf16", help="precision of the U-ViT and the text encoder")
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="device to run on")
    add("--attention", default="auto", metavar="auto|sdpa|xformers", help="attention backend")


def run(options: argparse.Namespace) -> int:
    """`amused batch`: generates the images of a table; 3 where some could not be generated."""
    from functools import partial

    from ..sampling.randomness import MAX_SEED
    from ..settings.inputs import whole
    from . import columns
    from .ledger import is_table, origin
    from .model_backend import ModelBackend
    from .names import find_layout
    from .pictures import Expansion, table_pictures
    from .report import show_estimate, show_run
    from .store import absolute

    rows = absolute(options.rows)
    source = origin(rows)
    if options.overwrite and is_table(rows, absolute(options.out)):
        raise AmusedError(f"--overwrite would remove the rows {rows!r}; copy them out of that folder first.")
    lora = {"lora": options.lora} if options.lora else {}
    expansion = Expansion(
        seed=whole(options.seed, "--seed", 0, MAX_SEED),
        defaults={**columns.defaults(options.set), **lora},
        grid=columns.grid(options.grid),
        layout=find_layout(options.layout, options.name, options.format),
    )
    _check_loras(source, expansion.defaults.get("lora"), expansion.grid.get("lora"))
    about = {"seed": expansion.seed, "set": options.set, "grid": options.grid, "layout": expansion.layout.name}
    job = _job(
        options,
        pictures=partial(table_pictures, rows, expansion),
        about={**about, "lora": options.lora or []},
        source=source,
        tokens=options.tokens,
        ending=expansion.layout.ending,
    )
    if options.ray is not None and not options.dry_run:
        from .cluster import run_on_ray

        work = partial(run_on_ray, job, _loading(options), options.ray, options.workers)
        return show_run(job, lambda on_progress: work(on_progress=on_progress))
    backend = ModelBackend(_load(options), source)
    return show_estimate(job, backend) if options.dry_run else _run(job, backend)


def _check_loras(source: str, *given: str | list[str | None] | None) -> None:
    """Raises `AmusedError` unless every LoRA of the command line can be read; those of rows are their rows' matter."""
    from ..lora.argument import split_lora
    from ..lora.file import read_lora
    from .store import neighbour

    for names in given:
        for name in names if isinstance(names, list) else [names]:
            if name:
                read_lora(split_lora(neighbour(source, name))[0])


def decode(options: argparse.Namespace) -> int:
    """`amused decode`: decodes tokens to images; 3 where some could not be decoded."""
    from .decoding import DecodingBackend, TokenSource
    from .store import absolute

    tokens = TokenSource(absolute(options.source))
    options.part = options.part or tokens.part
    job = _job(
        options, pictures=tokens.pictures, about={"tokens": options.source}, source=tokens.source, ending=tokens.ending
    )
    return _run(job, DecodingBackend(_load(options), tokens.source))


def _run(job: Any, backend: Any) -> int:
    from .engine import run as run_job
    from .report import show_run

    return show_run(job, lambda on_progress: run_job(job, backend, on_progress))


def _job(options: argparse.Namespace, **more: Any) -> Any:
    from .job import Job, parse_shard
    from .store import absolute

    if options.batch != "auto" and not options.batch.isdecimal():
        raise AmusedError(f"--batch is {options.batch!r}; allowed are auto and whole numbers.")
    return Job(
        out=absolute(options.out),
        format=options.format,
        batch=None if options.batch == "auto" else int(options.batch),
        part=options.part,
        shard=parse_shard(options.shard),
        retry_errors=options.retry_errors,
        overwrite=options.overwrite,
        unlock=options.unlock,
        **more,
    )


def _loading(options: argparse.Namespace) -> dict[str, Any]:
    from .store import absolute

    path = options.model and absolute(options.model)
    return {"path": path, "dtype": options.dtype, "device": options.device, "attention": options.attention}


def _load(options: argparse.Namespace) -> Any:
    from ..model import load_model

    return load_model(**_loading(options))
