"""From the keys of a LoRA to the weights of a model that they change."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Size, Tensor

from ..errors import AmusedError
from .bases import guess
from .change import Change, Difference, LowRank
from .file import LoraFile
from .keys import TEXT_ENCODER, TRANSFORMER, Key, Modules, split

# part -> name of a weight -> its shape
Shapes = Mapping[str, Mapping[str, Size]]
SHOWN = 3


@dataclass(frozen=True)
class Lora:
    """A LoRA on the weights of one model.

    Attributes:
        name: the file's name.
        parts: "transformer" and "text_encoder" -> name of a weight -> its change.
        unused: keys of the file that fit no weight, or belong to a kind of LoRA that is not read.
    """

    name: str
    parts: dict[str, dict[str, Change]] = field(repr=False)
    unused: tuple[str, ...]

    def warning(self) -> str | None:
        """One sentence about `unused`; None where every key was used."""
        if not self.unused:
            return None
        one = len(self.unused) == 1
        return (
            f"{len(self.unused)} {'key' if one else 'keys'} of the LoRA {self.name!r} "
            f"{'fits' if one else 'fit'} nothing here and {'is' if one else 'are'} left out: {', '.join(self.unused)}."
        )


def fit(file: LoraFile, shapes: Shapes) -> Lora:
    """Finds the weight of every key.

    Args:
        file: the LoRA.
        shapes: the weights of the parts it may change; keys of a part that is not among them are passed by.

    Raises:
        AmusedError: nothing fits, only the text encoder's part does, another size of model, or damaged weights.
    """
    keys = {key: split(key) for key in file.tensors}
    modules = {
        part: Modules(name.removesuffix(".weight") for name in names if name.endswith(".weight"))
        for part, names in shapes.items()
    }
    groups: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    unused = []
    for text, key in keys.items():
        found = None if key.kind == "unknown" else _place(key, modules)
        if found is None:
            if key.part is None or key.part in shapes:
                unused.append(text)
            continue
        if key.kind in groups[found]:
            raise AmusedError(f"{_the(file)} changes {found[1]} twice: {groups[found][key.kind]} and {text}.")
        groups[found][key.kind] = text
    parts: dict[str, dict[str, Change]] = {part: {} for part in shapes}
    for (part, module), kinds in groups.items():
        changes = {} if "unread" in kinds else _changes(file, keys, part, module, kinds)
        for name, change in changes.items():
            _check(file, name, change, shapes[part])
        parts[part].update(changes)
        if not changes:
            unused += kinds.values()
    _refuse_strangers(file, keys, parts)
    return Lora(file.path.name, parts, tuple(sorted(unused)))


def _place(key: Key, modules: Mapping[str, Modules]) -> tuple[str, str] | None:
    for part in (TRANSFORMER, TEXT_ENCODER) if key.part is None else (key.part,):
        if part in modules and (module := modules[part].find(key.module)):
            return part, module
    return None


def _changes(
    file: LoraFile, keys: Mapping[str, Key], part: str, module: str, kinds: Mapping[str, str]
) -> dict[str, Change]:
    """Weight name -> change, for one module."""
    tensors = {kind: _numbers(file, text) for kind, text in kinds.items()}
    changes: dict[str, Change] = {}
    if ("down" in kinds) != ("up" in kinds):
        there = kinds.get("down") or kinds["up"]
        raise AmusedError(f"{_the(file)} is incomplete: {there} has no counterpart.")
    if "down" in kinds:
        down, up = tensors["down"], tensors["up"]
        if min(down.ndim, up.ndim) < 2 or up.flatten(1).shape[1] != down.shape[0] or not down.shape[0]:
            raise AmusedError(
                f"{_the(file)} is damaged: {kinds['up']} {list(up.shape)} and {kinds['down']} {list(down.shape)} "
                "cannot be multiplied."
            )
        rank = down.shape[0]
        told = file.alphas[part].of(keys[kinds["down"]].module, rank)
        alpha = _scalar(file, kinds["alpha"], tensors["alpha"]) if "alpha" in kinds else told
        changes[f"{module}.weight"] = LowRank(up, down, alpha)
    elif "diff" in kinds:
        changes[f"{module}.weight"] = Difference(tensors["diff"])
    if "diff_b" in kinds:
        changes[f"{module}.bias"] = Difference(tensors["diff_b"])
    return changes


def _numbers(file: LoraFile, key: str) -> Tensor:
    """The tensor as float32."""
    tensor = file.tensors[key]
    if not tensor.is_floating_point() and not key.endswith(".alpha"):
        raise AmusedError(f"{_the(file)} is damaged: {key} holds {tensor.dtype}, no floating-point numbers.")
    tensor = tensor.to(torch.float32)
    if not bool(torch.isfinite(tensor).all()):
        raise AmusedError(f"{_the(file)} is damaged: {key} holds NaN or infinite values.")
    return tensor


def _scalar(file: LoraFile, key: str, tensor: Tensor) -> float:
    if tensor.numel() != 1:
        raise AmusedError(f"{_the(file)} is damaged: {key} has the shape {list(tensor.shape)}, but is one number.")
    return tensor.item()


def _check(file: LoraFile, name: str, change: Change, shapes: Mapping[str, Size]) -> None:
    """Raises `AmusedError` unless the change has the shape of its weight."""
    here = list(shapes.get(name, []))
    there = change.shape
    if there != here and not (isinstance(change, LowRank) and here[:1] == there[:1] and _same_rest(there, here)):
        raise AmusedError(
            f"{_the(file)} is for a model of another size: its change of {name} is {there}, but the weight here is "
            f"{here or 'missing'}."
        )


def _same_rest(one: list[int], two: list[int]) -> bool:
    """A 1x1 convolution may be written as a matrix."""
    return math.prod(one[1:]) == math.prod(two[1:])


def _refuse_strangers(file: LoraFile, keys: Mapping[str, Key], parts: Mapping[str, Mapping[str, Change]]) -> None:
    """A LoRA of another model may fit the text encoder, which many share: that alone is no fit."""
    meant = [text for text, key in keys.items() if key.part == TRANSFORMER or (not key.part and key.kind != "unknown")]
    if parts.get(TRANSFORMER) or (not meant and parts.get(TEXT_ENCODER)):
        return
    if not meant and TEXT_ENCODER not in parts and any(key.part == TEXT_ENCODER for key in keys.values()):
        raise AmusedError(f"{_the(file)} changes only the text encoder; connect the CLIP of 'Load aMUSEd', too.")
    shown = meant or list(keys)
    base = guess(keys)
    raise AmusedError(
        f"{_the(file)} does not fit aMUSEd: it holds {', '.join(sorted(shown)[:SHOWN])}"
        + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
        + (f". It looks like {base}." if base else ", which no weight of this model is called.")
    )


def _the(file: LoraFile) -> str:
    return f"The LoRA {str(file.path)!r}"
