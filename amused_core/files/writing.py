"""Writing to disk: beside the target first, flushed, then put in place, so that nobody meets half a file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from ..errors import AmusedError, quoted_path

try:
    import fcntl
except ImportError:  # Windows, which removes no folder with an open file anyway.
    fcntl = None  # type: ignore[assignment]

# Of the folder in which a file is written, beside its final place.
PREFIX = ".amused-partial-"
_cleared: set[Path] = set()


class TakenError(AmusedError):
    """A new file was not to take the place of one that is there."""


@contextmanager
def beside(path: Path, overwrite: bool = True) -> Iterator[Path]:
    """A name for a file or folder that takes the place of `path` when the block ends well, and is gone otherwise.

    Files get the mode that the umask allows; safetensors alone would let only the owner read. What dead processes
    left half written in the same folder is removed.

    Args:
        path: the final place.
        overwrite: False: something that is there at the end stays.

    Raises:
        TakenError: `overwrite` is False, and something is there.
        AmusedError: it cannot be written.
    """
    from safetensors import SafetensorError

    with _refusals(path, OSError, ValueError):  # NUL and lone surrogates are ValueErrors.
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            os.lstat(path)  # Raises where no file can have this name.
    with _refusals(path, OSError, SafetensorError), _work_folder(path.parent) as folder:
        partial = folder / "content"
        partial.touch()
        mode = partial.stat().st_mode
        partial.unlink()
        yield partial
        for part in (partial, *partial.rglob("*")):
            if part.is_file():
                part.chmod(mode)
            _flush(part)
        _put(partial, path, overwrite)
        _flush(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file in UTF-8, lines ending in a line feed. Raises `AmusedError` as `beside` does."""
    with beside(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], overwrite: bool = True
) -> None:
    """Writes a whole `.safetensors` file of tensors on any device. Raises as `beside` does."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with beside(path, overwrite) as partial:
        save_file(contiguous, str(partial), metadata=dict(metadata))


@contextmanager
def _refusals(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Makes one sentence of what the system, or a library, says of writing `path`."""
    try:
        yield
    except AmusedError:
        raise
    except errors as error:
        reason = getattr(error, "strerror", None) or error
        kept = "the one that was there is kept" if os.path.lexists(path) else "nothing of it is left behind"
        raise AmusedError(f"{quoted_path(path)} cannot be written ({reason}); {kept}.") from error


@contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, locked as long as this process works in it, and gone afterwards."""
    if parent not in _cleared:
        _clear(parent)
        _cleared.add(parent)
    folder, lock = _new_folder(parent)
    try:
        yield folder
    finally:
        _remove(folder)
        if lock is not None:
            os.close(lock)


def _new_folder(parent: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = _lock(folder, wait=True)
        if folder.is_dir():
            return folder, lock
        if lock is not None:  # Another process took it for a dead one's before it was locked.
            os.close(lock)


def _clear(parent: Path) -> None:
    """Removes the work folders in `parent` whose processes have ended: nobody holds their locks."""
    for folder in parent.glob(f"{PREFIX}*"):
        if (lock := _lock(folder, wait=False)) is not None:
            _remove(folder)
            os.close(lock)


def _lock(folder: Path, wait: bool) -> int | None:
    """Locks a folder for as long as the handle that is returned stays open; None where that is not possible."""
    if fcntl is None:
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # Another process has it, or this file system knows no locks.
        os.close(handle)
        return None
    return handle


def _put(source: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        source.replace(target)
        return
    try:
        if source.is_dir() or os.name == "nt":
            source.rename(target)  # Takes the place of nothing but an empty folder.
        else:
            os.link(source, target)
    except OSError as error:
        if os.path.lexists(target):
            raise TakenError(f"{str(target)!r} already exists and is kept; choose another name.") from error
        source.rename(target)  # This file system has no hard links.


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
