"""LATENTs of tokens as files, the same as those of `amused generate --save-tokens`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
from torch import Tensor

from ....amused_core.errors import AmusedError
from ....amused_core.files.tokens import UNDECIDED, read_tokens, save_tokens
from .. import guards
from ..latent.latent_format import codes_to_tokens, tokens_to_codes
from ..load.listing import Remembered, Stamp, scan, stamp
from ..sample import checks
from . import output

ENDING = ".npy"
# What the node shows before a file is chosen.
NONE = "none"


def save(latent: dict[str, Tensor], prefix: str) -> Path:
    """Writes a LATENT's tokens below ComfyUI's output folder; a masked cell is -1. Returns the new file."""
    codes = checks.check_codes(latent["samples"], checks.MAX_CODES)
    tokens = codes_to_tokens(codes, UNDECIDED)
    return output.save(prefix, ENDING, lambda path: save_tokens(tokens, path, overwrite=False))


def load(name: str, model: Any) -> dict[str, Tensor]:
    """The LATENT in a file of ComfyUI's input folder, for a MODEL.

    Raises:
        AmusedError: no such file, not a file of tokens, or tokens of another model.
    """
    size = guards.amused_model(model).info.codebook_size
    tokens = read_tokens(_path(name), size)
    return {"samples": tokens_to_codes(tokens.where(tokens != UNDECIDED, size), size)}


def names() -> list[str]:
    """The files to choose from, sorted."""
    return _names(folder_paths.get_input_directory())


@Remembered
def _names(note: Callable[[str], Stamp], folder: str) -> list[str]:
    note(folder)
    return [entry.name for entry in scan(folder, ENDING) if entry.is_file()]


def fingerprint(name: str) -> tuple[str, Stamp]:
    """Path, time and size: changes when the file is replaced."""
    path = _path(name)
    return str(path), stamp(path)


def problem(name: str | None) -> str | None:
    """What is wrong with a name, or None; also None for a name that is not known yet."""
    try:
        if name is not None:
            _path(name)
    except AmusedError as error:
        return str(error)
    return None


def _path(name: str) -> Path:
    """The file of that name in the input folder; ComfyUI's ending " [output]" names the output folder.

    Raises:
        AmusedError: no such file, or one elsewhere.
    """
    plain, folder = folder_paths.annotated_filepath(name)
    root = Path(folder or folder_paths.get_input_directory()).resolve()
    what = "No token file is chosen" if name == NONE else f"The token file {name!r} is not there"
    try:
        path = (root / plain.replace("\\", "/")).resolve()
        there = path.is_relative_to(root) and path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a name that no file can have
        what, there = f"The token file {name!r} cannot be read ({error})", False
    if not there:
        known = f"there is {', '.join(files)}" if (files := names()) else f"there is no {ENDING} file yet"
        raise AmusedError(f"{what}; allowed are files in {str(root)!r}, where {known}.")
    return path
