"""Commands that write files, in processes that may be killed or have no room; and what must hold of their files."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from amused_core.cli import main
from amused_core.files.writing import PREFIX
from tests.campaign.world import World

# What `amused` says of a name that is taken: the file was there before the process was killed.
TAKEN = "already exists"
# A time in a batch's results is different each time.
SECONDS = re.compile(rb'"seconds": ?[\d.e-]+')


@dataclass(frozen=True)
class Task:
    """A command line, the folder it writes to left out; `outcome` reads the same from each run of it."""

    name: str
    words: tuple[str, ...]
    target: str

    def line(self, folder: Path) -> list[str]:
        """The whole command line."""
        return [word.replace("OUT", str(folder / self.target)) for word in self.words]


def tasks(world: World) -> list[Task]:
    """All that write: pictures, tables of pictures in each format, models, training."""
    model = ("--model", str(world.model_folder), "--dtype", "fp32")
    batch = ("batch", str(world.rows), "OUT", *model, "--set", "steps=2", "--batch", "2", "--tokens", "--part", "4")
    train = (str(world.picture), "--caption", "a cat", "--model", str(world.model_folder), "--width", "32", "--height",
             "32", "--steps", "4", "--save-every", "1", "--output", "OUT")  # fmt: skip
    pictures = ("generate", "a cat", *model, "--steps", "2", "--batch", "6", "--output", "OUT")
    return [
        Task("generate", (*pictures, "--save-tokens", "OUT.npy"), "a.png"),
        *(Task(f"batch {form}", (*batch, "--format", form), form) for form in ("files", "webdataset", "parquet")),
        Task("save file", ("save", "OUT", *model), "m.safetensors"),
        Task("save folder", ("save", "OUT", *model), "m"),
        Task("train lora", ("train", "lora", *train), "lora"),
        Task("train full", ("train", "full", *train), "full"),
    ]


def begin(line: list[str], said: Path, before: Callable[[], None] = lambda: None) -> int:
    """Starts a command in a child of this process, which has all libraries loaded; its last words go to `said`."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        torch.set_num_threads(1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        before()
        code = main(line)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def finish(child: int) -> int:
    """The exit status of a child; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def broken(folder: Path) -> list[str]:
    """Files under their final names that cannot be read."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(PREFIX) for part in path.relative_to(folder).parts):
            try:
                _read(path)
            except Exception as error:
                found.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    return found


def leftovers(folder: Path) -> list[str]:
    """What unfinished writing left."""
    return [path.name for path in folder.rglob("*") if path.name.startswith(PREFIX) or path.suffix == ".partial"]


def outcome(folder: Path) -> dict[str, Any]:
    """All that a task leaves but the times it took: name of a file -> content."""
    files: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (
            path.is_file()
            and "/." not in f"/{name}"
            and path.suffix in (".png", ".npy", ".safetensors", ".tar", ".json")
        ):
            files[name] = tensors(path) if path.suffix == ".safetensors" else SECONDS.sub(b"", path.read_bytes())
    return files


def tensors(path: Path) -> tuple[dict[str, str] | None, dict[str, bytes]]:
    """Metadata, which the library writes in any order, and tensors."""
    with safe_open(path, "pt") as file:
        return file.metadata(), {key: file.get_tensor(key).numpy().tobytes() for key in file.keys()}  # noqa: SIM118


def _read(path: Path) -> None:
    if path.suffix == ".png":
        Image.open(path).load()
    elif path.suffix == ".npy":
        np.load(path)
    elif path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118  it is no mapping
                file.get_tensor(key)
    elif path.suffix == ".json":
        json.loads(path.read_text("utf-8"))
    elif path.suffix == ".jsonl":
        for line in path.read_text("utf-8").splitlines():
            json.loads(line)
    elif path.suffix == ".parquet":
        from pyarrow import parquet

        parquet.read_table(path)
    elif path.suffix == ".tar":
        import tarfile

        with tarfile.open(path) as file:
            file.getmembers()
