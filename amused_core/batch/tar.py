"""Pictures in tar files, as WebDataset reads them: `key.png`, `key.npy`, `key.txt`, `key.json`."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .drawing import Drawing, npy
from .names import tar_key

ENDING = ".tar"
PICTURES = (".png", ".jpg")


def write(path: Path, drawings: Iterable[Drawing]) -> None:
    """Writes a whole file; the same drawings give the same bytes."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for drawing in drawings:
            key = tar_key(drawing.file)
            if drawing.picture is not None:
                _add(archive, f"{key}{drawing.ending}", drawing.picture)
            if drawing.tokens is not None:
                _add(archive, f"{key}.npy", npy(drawing.tokens))
            _add(archive, f"{key}.txt", str(drawing.about.get("prompt", "")).encode("utf-8", "replace"))
            about = {"number": drawing.number, "file": drawing.file, **drawing.about}
            _add(archive, f"{key}.json", json.dumps(about, ensure_ascii=True, default=str).encode())


def read(file: BinaryIO) -> Iterator[Drawing]:
    """The drawings of a file that `write` wrote, one at a time."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        parts: dict[str, bytes] = {}
        for member in archive:
            content = archive.extractfile(member)
            parts["." + member.name.rpartition(".")[2]] = content.read() if content else b""
            if member.name.endswith(".json"):
                yield _drawing(parts)
                parts = {}


def _drawing(parts: dict[str, bytes]) -> Drawing:
    about: dict[str, Any] = json.loads(parts[".json"])
    number, file = about.pop("number"), about.pop("file")
    ending = next((ending for ending in PICTURES if ending in parts), ".png")
    tokens = np.lib.format.read_array(io.BytesIO(parts[".npy"]), allow_pickle=False) if ".npy" in parts else None
    return Drawing(number, file, about, parts.get(ending), ending, tokens)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    archive.addfile(member, io.BytesIO(content))
