"""Where checkpoints lie: `models/amused`, `models/diffusers`, `extra_model_paths.yaml`, and where ComfyUI saves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import folder_paths

from ....amused_core.checkpoint import EMBEDDED, Checkpoint, is_checkpoint, open_checkpoint
from ....amused_core.checkpoint.folder import INDEX_FILE
from ....amused_core.checkpoint.graph_file import base_of
from ....amused_core.errors import CheckpointError
from ....amused_core.files.tensors import ENDING
from .listing import Remembered, Stamp, leave_out, scan, stamp

EMBEDDED_NAME = "embedded"
KINDS = ("amused", "diffusers")
# Where ComfyUI's own nodes save, and look: names of models there begin with the kind, for those nodes number alike.
SAVED = ("checkpoints", "diffusion_models", "text_encoders", "vae")
MAX_DEPTH = 3
# Of files that are not complete so many are looked at again, the newest: those that are just being downloaded.
DOWNLOADS = 100

# Index or file -> its stamp, and whether it is a checkpoint or why it cannot be read.
_known: dict[str, tuple[Stamp, bool | str]] = {}


def register() -> None:
    """Adds `models/amused` to ComfyUI's folders, keeping those that are there."""
    folder_paths.add_model_folder_path("amused", os.path.join(folder_paths.models_dir, "amused"))


def model_names() -> list[str]:
    """What the loader offers: the embedded model first, then names relative to their folder, sorted."""
    saved = [f"{kind}/{name}" for kind in SAVED for name in _saved[kind](*folder_paths.get_folder_paths(kind))]
    return [EMBEDDED_NAME, *sorted({*_names(*_roots()), *saved})]


def open_model(name: str) -> Checkpoint:
    """The checkpoint of that name.

    Raises:
        CheckpointError: no such model, or one that cannot be read.
    """
    return _open(name, ())


def name_of(path: Path) -> str:
    """The name of the model at `path`; the path itself where it is in none of the folders."""
    if path == EMBEDDED:
        return EMBEDDED_NAME
    for prefix, root in _prefixed_roots():
        if path.is_relative_to(root):
            return prefix + path.relative_to(root).as_posix()
    return str(path)


def fingerprint(name: str) -> list[tuple[str, Stamp]]:
    """Path, time and size of every file of a model, and of what its other parts come from: changes with a new one."""
    return [stamped for path in _all_paths(name, ()) for stamped in _stamps(path)]


def _stamps(path: Path) -> list[tuple[str, Stamp]]:
    files = [path]
    if path.is_dir():
        files = [Path(folder, file) for folder, _, names in os.walk(path) for file in names]
    return [(str(file), stamp(file)) for file in sorted(files)]


def problem(name: str | None) -> str | None:
    """What is wrong with a model's name, or None; also None for a name that is not known yet."""
    try:
        if name is not None:
            _path(name)
    except CheckpointError as error:
        return str(error)
    return None


def _roots() -> list[str]:
    return [root for kind in KINDS for root in folder_paths.get_folder_paths(kind)]


def _prefixed_roots() -> list[tuple[str, Path]]:
    """What the names of models in a folder begin with, and the folder."""
    saved = [(f"{kind}/", Path(root)) for kind in SAVED for root in folder_paths.get_folder_paths(kind)]
    return [*(("", Path(root)) for root in _roots()), *saved]


def _open(name: str, users: tuple[str, ...]) -> Checkpoint:
    """`users` are files whose parts that one is to complete."""
    path = _path(name)
    if path is None or path.is_dir():
        return open_checkpoint(path)
    _refuse_circle(name, users)
    return open_checkpoint(path, base=lambda base: _open(base, (*users, name)))


def _all_paths(name: str, users: tuple[str, ...]) -> list[Path]:
    """Where a model lies, and what its other parts come from."""
    path = _path(name) or EMBEDDED
    _refuse_circle(name, users)
    base = base_of(path)
    return [path] if base is None else [path, *_all_paths(base, (*users, name))]


def _refuse_circle(name: str, users: tuple[str, ...]) -> None:
    if name in users:
        raise CheckpointError(f"The model {users[0]!r} cannot be assembled: {name!r} refers to itself.")


def _path(name: str) -> Path | None:
    """Where the model of that name lies, found without a look at all others.

    Of two with one name the first folder's wins. A workflow from Windows may have backslashes in its names.
    """
    if name == EMBEDDED_NAME:
        return None
    reason = None
    for plain in dict.fromkeys((name, name.replace("\\", "/"))):
        for prefix, root in _prefixed_roots():
            if not plain.startswith(prefix):
                continue
            path = root / plain.removeprefix(prefix)
            inside = path != root and path.is_relative_to(root) and ".." not in path.parts
            if not inside or "\0" in plain or not os.path.lexists(path):
                continue
            state = _state(path)
            if state is True:
                return path
            reason = reason or state or _reason(path)
    if reason:
        raise CheckpointError(f"The model {name!r} exists but cannot be loaded: {reason}")
    raise CheckpointError(
        f"The model {name!r} is not there; put it into {folder_paths.get_folder_paths('amused')[0]!r}, a folder in "
        f"diffusers' layout or a {ENDING} file of 'amused save'. There are {', '.join(model_names())}."
    )


def _reason(path: Path) -> str:
    """Why something that is no aMUSEd checkpoint is none."""
    if os.path.isfile(path / INDEX_FILE):
        return f"the {INDEX_FILE} in {str(path)!r} is that of another kind of model."
    try:
        open_checkpoint(path)
    except CheckpointError as error:
        return str(error)
    return f"{str(path)!r} has changed just now; try again."


def _state(path: Path) -> bool | str:
    """Whether a folder or file is a checkpoint, or why it cannot be read; remembered until it changes."""
    index = path / INDEX_FILE
    key = index if os.path.isfile(index) else path
    now = stamp(key)
    known = _known.get(str(key))
    if known is not None and known[0] == now:
        return known[1]
    try:
        state: bool | str = is_checkpoint(path)
    except CheckpointError as error:
        state = str(error)
    _known[str(key)] = now, state
    return state


@Remembered
def _names(note: Callable[[str | Path], Stamp], *roots: str) -> list[str]:
    """Names of all models below `roots`, sorted; the log says what cannot be read."""
    return _found(note, roots, leave_out)


def _names_among_others(note: Callable[[str | Path], Stamp], *roots: str) -> list[str]:
    """The same in folders for all kinds of model: what cannot be read there is none of ours."""
    return _found(note, roots, lambda path, reason: None)


_saved = {kind: Remembered(_names_among_others) for kind in SAVED}


def _found(
    note: Callable[[str | Path], Stamp], roots: tuple[str, ...], unread: Callable[[Path, object], None]
) -> list[str]:
    names, unreadable = set(), []
    for root in roots:
        for path in _candidates(note, root, MAX_DEPTH, frozenset()):
            state = _state(path)
            if state is True:
                names.add(path.relative_to(root).as_posix())
            elif state:
                unread(path, state)
                unreadable.append(path)
    for path in sorted(unreadable, key=lambda path: stamp(path) or (0, 0))[-DOWNLOADS:]:
        note(path)
    return sorted(names - {EMBEDDED_NAME})


def _candidates(
    note: Callable[[str | Path], Stamp], folder: str, depth: int, above: frozenset[tuple[int, int]]
) -> Iterator[Path]:
    """Model folders and `.safetensors` files below `folder`; a model folder is not looked into."""
    note(folder)
    try:
        stat = os.stat(folder)
    except OSError:
        return
    if (place := (stat.st_dev, stat.st_ino)) in above:  # A link to a folder that it lies in.
        return
    for entry in scan(folder):
        path = Path(entry.path)
        if entry.is_file():
            if path.suffix.lower() == ENDING:
                yield path
        elif os.path.isfile(path / INDEX_FILE):
            note(path / INDEX_FILE)
            yield path
        elif entry.is_dir() and depth > 1:
            yield from _candidates(note, entry.path, depth - 1, above | {place})
