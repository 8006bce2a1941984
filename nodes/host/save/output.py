"""Names of new files in ComfyUI's output folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import folder_paths

from ....amused_core.errors import AmusedError, quoted
from ....amused_core.files.writing import TakenError

# What is left of the 255 bytes of a name for its number and ending.
MAX_NAME = 200


def save(prefix: str, ending: str, write: Callable[[Path], object]) -> Path:
    """Lets `write` make a new file below the output folder, `prefix` and a number; returns the path.

    Args:
        prefix: may hold folders.
        ending: of the name; "" for a folder.
        write: raises `TakenError` where another server was faster, and is then called with the next number.

    Raises:
        AmusedError: an empty prefix, one that leads out of the output folder, or that no file can be called by.
    """
    while True:
        path = numbered(prefix, ending)
        try:
            write(path)
        except TakenError:
            continue
        return path


def numbered(prefix: str, ending: str = "") -> Path:
    """A path below the output folder that is free now; see `save`."""
    target, output = below(prefix), os.path.abspath(folder_paths.get_output_directory())
    try:
        folder, name, count, _, _ = folder_paths.get_save_image_path(prefix, output)
    except OSError as error:
        raise AmusedError(f"{target!r} cannot be written ({error.strerror or error}).") from error
    while (path := Path(folder, f"{name}_{count:05}_{ending}")).exists():
        count += 1
    return path


def below(prefix: str, what: str = "filename_prefix") -> str:
    """The path of a name in the output folder; `what` the user calls it.

    Raises:
        AmusedError: an empty name, one that leads out of the folder, or that no file can be called by.
    """
    if any(ord(char) < 32 or "\ud800" <= char <= "\udfff" for char in prefix) or any(
        len(part.encode()) > MAX_NAME for part in prefix.replace("\\", "/").split("/")
    ):
        raise AmusedError(
            f"{what} is {quoted(prefix)}; allowed are names of at most {MAX_NAME} bytes without control characters."
        )
    output = os.path.abspath(folder_paths.get_output_directory())
    target = os.path.abspath(os.path.join(output, prefix))
    if not prefix.strip() or not target.startswith(output + os.sep) or not os.path.basename(prefix):
        raise AmusedError(
            f"{what} is {quoted(prefix)}; allowed are names below the output folder, such as 'amused/name'."
        )
    return target


def shown(path: Path) -> dict[str, str]:
    """A saved file as ComfyUI's history names it."""
    place = path.relative_to(os.path.abspath(folder_paths.get_output_directory()))
    folder = "" if place.parent == Path() else place.parent.as_posix()
    return {"filename": place.name, "subfolder": folder, "type": "output"}
