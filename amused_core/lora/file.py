"""Reading a LoRA: tensors, and the alphas that are told in its metadata or beside it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import AmusedError, one_line, quoted, quoted_path
from ..files.reading import read_json
from ..files.tensors import ENDING, read_tensors
from .keys import PARTS

# What diffusers and peft call their files, and peft's settings beside its own.
FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
PEFT_FILE, PEFT_CONFIG = FILES[1], "adapter_config.json"
DIFFUSERS_METADATA = "lora_adapter_metadata"
OWN_ALPHA = "lora_alpha"


@dataclass(frozen=True)
class Alphas:
    """How strong a LoRA is meant to be, where no tensor says it: peft's `lora_alpha` and what goes with it."""

    default: float | None = None
    patterns: Mapping[str, float] = field(default_factory=dict)
    by_root: bool = False

    def of(self, module: str, rank: int) -> float:
        """Alpha of a module: its change is `alpha / rank * up @ down`. The rank itself where nothing is told.

        With `by_root` (rsLoRA, Kalajdzievski 2023) peft divides by the root of the rank; here alpha makes up for it.
        """
        alpha = next((v for key, v in self.patterns.items() if re.match(rf"(.*\.)?({key})$", module)), self.default)
        if alpha is None:
            return float(rank)
        return alpha * math.sqrt(rank) if self.by_root else alpha


@dataclass(frozen=True)
class LoraFile:
    """A LoRA as it is on disk.

    Attributes:
        path: the file.
        tensors: key -> tensor, in the stored dtype.
        alphas: part -> what to scale by where no tensor says it.
    """

    path: Path
    tensors: dict[str, Tensor]
    alphas: dict[str, Alphas]


def read_lora(path: str | Path) -> LoraFile:
    """Reads a `.safetensors` LoRA, or a folder that holds one as diffusers or peft name it.

    Raises:
        AmusedError: nothing there, another format, or a damaged file.
    """
    file = _find(path)
    tensors, metadata = read_tensors(file)
    if not tensors:
        raise AmusedError(f"The LoRA {str(file)!r} holds no weights.")
    try:
        alphas = _alphas(file, metadata)
    except (AttributeError, TypeError, ValueError, re.error) as error:
        raise AmusedError(f"The settings of the LoRA {str(file)!r} cannot be read: {one_line(error)}.") from error
    return LoraFile(file, tensors, alphas)


def _find(path: str | Path) -> Path:
    allowed = "allowed are a .safetensors file, or a folder with one."
    if not (isinstance(path, (str, Path)) and str(path)):
        raise AmusedError(f"The LoRA's path is {quoted(path)}; {allowed}")
    try:
        place = Path(path).expanduser()
        if place.is_dir():
            inside = sorted(file for file in place.iterdir() if file.suffix.lower() == ENDING)
            known = [place / name for name in FILES if place / name in inside]
            if not known and len(inside) != 1:
                names = ", ".join(file.name for file in inside) or "none"
                raise AmusedError(f"{str(place)!r} should hold one LoRA, but its .safetensors files are: {names}.")
            return (known or inside)[0]
        found = place.is_file()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AmusedError(f"No LoRA at {quoted_path(path)} ({reason}); {allowed}") from error
    if not found or place.suffix.lower() != ENDING:
        raise AmusedError(f"No LoRA at {quoted_path(place)}; {allowed}")
    return place


def _alphas(file: Path, metadata: Mapping[str, str]) -> dict[str, Alphas]:
    """Of peft's file the settings beside it; else diffusers' metadata, part by part; else our own."""
    config = file.with_name(PEFT_CONFIG)
    if file.name == PEFT_FILE and config.is_file():
        return dict.fromkeys(PARTS, _from_peft(read_json(config)))
    own = Alphas(_positive(metadata[OWN_ALPHA])) if OWN_ALPHA in metadata else Alphas()
    packed = json.loads(metadata.get(DIFFUSERS_METADATA, "{}"))
    alphas = dict.fromkeys(PARTS, own)
    for part in PARTS:
        prefix = f"{part}."
        if settings := {key.removeprefix(prefix): v for key, v in packed.items() if key.startswith(prefix)}:
            alphas[part] = _from_peft(settings)
    return alphas


def _from_peft(config: Mapping[str, Any]) -> Alphas:
    """From the fields of peft's `LoraConfig`."""
    default = config.get("lora_alpha")
    patterns = {str(key): _positive(value) for key, value in (config.get("alpha_pattern") or {}).items()}
    for key in patterns:
        re.compile(key)
    return Alphas(None if default is None else _positive(default), patterns, bool(config.get("use_rslora")))


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"alpha is {quoted(value)}; allowed are positive numbers")
    return number
