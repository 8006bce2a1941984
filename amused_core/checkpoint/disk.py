"""Opening and saving: which of the two kinds of checkpoint a path is."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from ..errors import CheckpointError, one_line, quoted, quoted_path
from ..families import FAMILIES
from ..files.reading import read_json
from ..files.tensors import ENDING, TensorFile, read_header
from ..files.writing import TakenError
from .contents import Checkpoint
from .folder import INDEX_FILE, FolderSource, write_folder
from .graph_file import MARKS, Base, GraphFile, is_graph_file
from .single_file import METADATA_KEY, FileSource, write_checkpoint

EMBEDDED = Path(__file__).parents[1] / "embedded"
# A part of a file's name.
VARIANT = re.compile(r"[\w.-]{0,64}")
# Of files that this package never writes: such a name is no folder's.
OTHER_ENDINGS = (".bin", ".ckpt", ".gguf", ".pt", ".pth")


def open_checkpoint(
    path: str | Path | None = None, variant: str | None = None, mmap: bool = False, base: Base | None = None
) -> Checkpoint:
    """Opens a diffusers folder or a one-file checkpoint; `None` is the model that ships with the package.

    Args:
        path: folder with a `model_index.json`, or a `.safetensors` file written by `write_checkpoint`, or by
            ComfyUI's own save nodes.
        variant: weight variant of a folder ("fp16" reads `*.fp16.safetensors`); parts that lack it are read plain.
        mmap: map weights from the file instead of reading them; see `load_model`.
        base: opens what the other parts come from where a save node wrote a part alone; see `GraphFile`.

    Raises:
        CheckpointError: nothing there, another kind of model, or unreadable files.
    """
    allowed = "allowed are a diffusers folder or a .safetensors file."
    if variant is not None and not (isinstance(variant, str) and VARIANT.fullmatch(variant)):
        raise CheckpointError(f"variant is {quoted(variant)}; allowed are a name such as 'fp16', or None.")
    if path is not None and not (isinstance(path, (str, Path)) and str(path)):
        raise CheckpointError(f"The model's path is {quoted(path)}; {allowed}")
    try:
        place = EMBEDDED if path is None else Path(path).expanduser()
        is_folder, is_file = place.is_dir(), place.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"No model at {quoted_path(path)} ({reason}); {allowed}") from error
    if is_folder:
        return Checkpoint(place, FolderSource(place, variant, mmap))
    if not is_file:
        raise CheckpointError(f"No model at {quoted_path(place)}; {allowed}")
    if variant is not None:
        raise CheckpointError(f"variant {variant!r} is for folders, but {str(place)!r} is a file.")
    source = GraphFile(place, base, mmap) if is_graph_file(place) else FileSource(place, mmap)
    return Checkpoint(place, source)


def is_checkpoint(path: Path) -> bool:
    """Whether an aMUSEd checkpoint lies at `path`, as the index of a folder or the header of a file says.

    Raises:
        CheckpointError: index or header cannot be read, or a part of the file is missing.
    """
    if os.path.isfile(index := path / INDEX_FILE):
        transformer = read_json(index).get("transformer")
        return isinstance(transformer, list) and any(name in FAMILIES for name in transformer if isinstance(name, str))
    if path.suffix.lower() != ENDING or not os.path.isfile(path):
        return False
    try:
        with path.open("rb") as file:
            header = read_header(file)[0]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read as safetensors: {one_line(error)}.") from error
    metadata = header.get("__metadata__")
    if not (isinstance(metadata, dict) and METADATA_KEY in metadata) and not MARKS & header.keys():
        return False
    TensorFile(path)
    return True


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, dtype: torch.dtype | None = None) -> None:
    """Writes a checkpoint as one file if `path` ends in `.safetensors`, else as a new folder in diffusers' layout.

    `dtype`: cast floating-point weights to it; None keeps each as it is.

    Raises:
        CheckpointError: a name that is neither, a folder that already exists, or weights that are no numbers.
        AmusedError: it cannot be written.
    """
    if not isinstance(path, (str, Path)) or not str(path):
        raise CheckpointError(f"The path to save to is {quoted(path)}; allowed are a {ENDING} file or a new folder.")
    path = Path(path)
    if path.suffix.lower() == ENDING:
        write_checkpoint(path, checkpoint, dtype)
    elif path.suffix.lower() in OTHER_ENDINGS or ENDING in path.name.lower():
        raise CheckpointError(f"{str(path)!r} must end in {ENDING}, or be the name of a folder.")
    else:
        try:
            write_folder(path, checkpoint, dtype)
        except TakenError as error:
            raise CheckpointError(str(error)) from error
