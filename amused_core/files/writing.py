"""Writing to disk: beside the target first, flushed, then put in place, so that nobody meets half a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from ..errors import AmusedError


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file or folder that takes its place when the block ends well, and is gone otherwise.

    Files get the mode that the umask allows; safetensors alone would let only the owner read.

    Raises:
        AmusedError: it cannot be written.
    """
    from safetensors import SafetensorError

    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)  # what a crash left there
        partial.touch()
        mode = partial.stat().st_mode
        partial.unlink()
        yield partial
        for part in (partial, *partial.rglob("*")):
            if part.is_file():
                part.chmod(mode)
            _flush(part)
        partial.replace(path)
        _flush(path.parent)
    except (SafetensorError, OSError) as error:
        raise AmusedError(f"{str(path)!r} cannot be written: {error}") from error
    finally:
        _remove(partial)


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file in UTF-8, lines ending in a line feed. Raises `AmusedError` as `beside` does."""
    with beside(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a whole `.safetensors` file of tensors on any device. Raises `AmusedError` as `beside` does."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with beside(path) as partial:
        save_file(contiguous, str(partial), metadata=dict(metadata))


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _flush(path: Path) -> None:
    """Waits until a file is on the disk, and a folder's list of names where the system can."""
    if path.is_dir():
        with suppress(OSError):  # Windows opens no folders
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    else:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
