"""Cells of an evaluation: one task with one choice of settings each, kept as a file so that a run can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import AmusedError
from ..files.writing import write_text
from ..model import AmusedModel
from ..settings import VALUES

VERSION = 1
"""Goes up when a number would come out differently; older cells are then measured again."""


def sweep(choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of `choices` (name of a setting -> values; none: the recommended one), no cell twice."""
    chosen = {name: list(choices[name]) for name in VALUES if choices.get(name)}
    cells: list[dict[str, Any]] = []
    for values in product(*chosen.values()):
        settings = dict(zip(chosen, values, strict=True))
        if settings.get("cfg_schedule") in ("constant", "ramp"):
            settings.pop("cfg_interval", None)
        if settings not in cells:
            cells.append(settings)
    return cells


def in_passes(cells: Sequence[Mapping[str, Any]], passes: Sequence[int]) -> list[dict[str, Any]]:
    """Each of `cells` with as many steps as take each of `passes` forward passes per image: with constant guidance a
    step is two, without (`cfg` of 1 or less) it is one.

    Raises:
        AmusedError: a cell names no `cfg`, or names `steps`; passes below 1, or odd with guidance.
    """
    chosen: list[dict[str, Any]] = []
    for cell, count in product(cells, passes):
        if "steps" in cell or "cfg" not in cell:
            raise AmusedError("--passes sets the steps from the guidance; it needs --cfg, and excludes --steps.")
        each = 2 if cell["cfg"] > 1 else 1
        if count < each or count % each:
            raise AmusedError(f"--passes is {count}; allowed with cfg {cell['cfg']:g} are multiples of {each}.")
        chosen.append({"steps": count // each, **cell})
    return chosen


def label(settings: Mapping[str, Any]) -> str:
    """The settings in words, as "steps 12, cfg 1.5"; "defaults" where there are none."""

    def words(value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return "-".join(f"{item:g}" for item in value)
        return f"{value:g}" if isinstance(value, (int, float)) else str(value)

    def named(name: str, value: Any) -> str:
        if isinstance(value, bool):
            return name if value else f"no {name}"
        return f"{name} {words(value)}"

    return ", ".join(named(name.replace("_", " "), value) for name, value in settings.items()) or "defaults"


def model_digest(model: AmusedModel) -> str:
    """Identifies a model: a hash of some values of every weight, and of its recommended settings."""
    content = hashlib.sha256(json.dumps(asdict(model.checkpoint.recommended)).encode())
    for part in (model.transformer, model.vq.module, model.text.module):
        for name, weight in part.state_dict().items():
            some = weight.flatten()[:: max(1, weight.numel() // 64)].float().cpu()
            content.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode() + some.numpy().tobytes())
    return content.hexdigest()[:16]


class CellStore:
    """A folder with a file for each cell. A cell with the same model and settings is measured only once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: Mapping[str, Any], measure: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """The stored result of `key`, or that of `measure()`, stored; and whether it was there."""
        full_key = json.loads(json.dumps({**key, "version": VERSION}))
        path = self.path(key)
        stored = _read(path)
        if stored is not None and stored.get("key") == full_key:
            return stored, True
        result = {"key": full_key, **json.loads(json.dumps(measure()))}
        write_text(path, json.dumps(result, indent=1) + "\n")
        return result, False

    def path(self, key: Mapping[str, Any]) -> Path:
        """The file of a cell."""
        content = hashlib.sha256(json.dumps({**key, "version": VERSION}, sort_keys=True).encode()).hexdigest()[:10]
        return self.folder / f"{key['task']}-{str(key['part']).replace(' ', '-')}-{content}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
