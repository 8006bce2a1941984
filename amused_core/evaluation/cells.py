"""Cells of an evaluation: one task with one choice of settings each, kept as a file so that a run can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from ..model import AmusedModel
from ..settings import VALUES

VERSION = 1
"""Goes up when a number would come out differently; older cells are then measured again."""


def sweep(choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of `choices` (name of a setting -> values; none given: left to the model), no cell twice."""
    given = {name: list(choices[name]) for name in VALUES if choices.get(name)}
    found: list[dict[str, Any]] = []
    for values in product(*given.values()):
        settings = dict(zip(given, values, strict=True))
        if settings.get("cfg_schedule") in ("constant", "ramp"):
            settings.pop("cfg_interval", None)
        if settings not in found:
            found.append(settings)
    return found


def label(settings: Mapping[str, Any]) -> str:
    """The settings in words, as "steps 12, cfg 1.5"; "defaults" where none is given."""

    def words(value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return "-".join(f"{item:g}" for item in value)
        return f"{value:g}" if isinstance(value, (int, float)) else str(value)

    named = ((name.replace("_", " "), value) for name, value in settings.items())
    return ", ".join(name if value is True else f"{name} {words(value)}" for name, value in named) or "defaults"


def digest(model: AmusedModel) -> str:
    """A fingerprint of a model: of some values of every weight, and of its recommended settings."""
    content = hashlib.sha256(json.dumps(asdict(model.checkpoint.recommended)).encode())
    for part in (model.transformer, model.vq.module, model.text.module):
        for name, weight in part.state_dict().items():
            some = weight.flatten()[:: max(1, weight.numel() // 64)].float().cpu()
            content.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode() + some.numpy().tobytes())
    return content.hexdigest()[:16]


class Cells:
    """The files of a folder, one a cell. What was measured once, with the same model and settings, is not again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: Mapping[str, Any], measure: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """The stored result of `key`, or that of `measure()`, stored; and whether it was there."""
        wanted = json.loads(json.dumps({**key, "version": VERSION}))
        path = self.path(key)
        found = _read(path)
        if found is not None and found.get("key") == wanted:
            return found, True
        result = {"key": wanted, **json.loads(json.dumps(measure()))}
        write(path, json.dumps(result, indent=1) + "\n")
        return result, False

    def path(self, key: Mapping[str, Any]) -> Path:
        """The file of a cell."""
        content = hashlib.sha256(json.dumps({**key, "version": VERSION}, sort_keys=True).encode()).hexdigest()[:10]
        return self.folder / f"{key['task']}-{str(key['part']).replace(' ', '-')}-{content}.json"


def write(path: Path, text: str) -> None:
    """Writes a text file that is whole or not there, whenever the run is stopped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
