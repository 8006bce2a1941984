"""Where checkpoints lie: `models/amused`, `models/diffusers`, and what `extra_model_paths.yaml` adds to them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import folder_paths

from ...amused_core.checkpoint import EMBEDDED, Checkpoint, open_checkpoint
from ...amused_core.checkpoint.single_file import ENDING, METADATA_KEY
from ...amused_core.errors import CheckpointError
from ...amused_core.families import FAMILIES

EMBEDDED_NAME = "embedded"
KINDS = ("amused", "diffusers")
MAX_DEPTH = 3


def register() -> None:
    """Adds `models/amused` to ComfyUI's folders, keeping those that are there."""
    folder_paths.add_model_folder_path("amused", os.path.join(folder_paths.models_dir, "amused"))


def model_names() -> list[str]:
    """What the loader offers: the embedded model first, then names relative to their folder, sorted."""
    return [EMBEDDED_NAME, *sorted(set(_models()) - {EMBEDDED_NAME})]


def open_model(name: str) -> Checkpoint:
    """The checkpoint of that name.

    Raises:
        CheckpointError: no such model, or one that cannot be read.
    """
    return open_checkpoint(_path(name))


def fingerprint(name: str) -> list[tuple[str, int, int]]:
    """Path, time and size of every file of a model: changes when it is replaced."""
    path = _path(name) or EMBEDDED
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [(str(file), (stat := file.stat()).st_mtime_ns, stat.st_size) for file in files]


def problem(name: str | None) -> str | None:
    """What is wrong with a model's name, or None; also None for a name that is not known yet."""
    try:
        if name is not None:
            _path(name)
    except CheckpointError as error:
        return str(error)
    return None


def _path(name: str) -> Path | None:
    """A workflow from Windows may have backslashes in its names."""
    if name == EMBEDDED_NAME:
        return None
    models = _models()
    path = models.get(name) or models.get(name.replace("\\", "/"))
    if path is None:
        raise CheckpointError(
            f"The model {name!r} is not there; put it into {folder_paths.get_folder_paths('amused')[0]!r}, a folder in "
            f"diffusers' layout or a {ENDING} file of 'amused save'. There are {', '.join(model_names())}."
        )
    return path


def _models() -> dict[str, Path]:
    """Name -> path; of two with one name the first folder's wins."""
    found: dict[str, Path] = {}
    for kind in KINDS:
        for root in map(Path, folder_paths.get_folder_paths(kind)):
            for path in _scan(root, MAX_DEPTH):
                found.setdefault(path.relative_to(root).as_posix(), path)
    return found


def _scan(folder: Path, depth: int) -> Iterator[Path]:
    """Model folders and files below `folder`; a model folder is not looked into."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir():
            index = path / "model_index.json"
            if index.is_file():
                if _is_model_folder(str(index), index.stat().st_mtime_ns):
                    yield path
            elif depth > 1:
                yield from _scan(path, depth - 1)
        elif path.suffix == ENDING and _is_model_file(str(path), entry.stat().st_mtime_ns):
            yield path


@lru_cache(maxsize=256)
def _is_model_folder(index: str, changed: int) -> bool:
    try:
        content = json.loads(Path(index).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and bool(FAMILIES.keys() & set(content.get("transformer") or []))


@lru_cache(maxsize=256)
def _is_model_file(path: str, changed: int) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
