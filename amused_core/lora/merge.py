"""LoRAs merged into the weights of a model, and taken out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..settings import inputs
from .file import read_lora
from .fit import Lora, fit
from .keys import TEXT_ENCODER, TRANSFORMER

MAX_STRENGTH = 100.0


@dataclass(frozen=True)
class Use:
    """A LoRA in use, and how strongly for each part."""

    lora: Lora
    strengths: Mapping[str, float]


class Loras:
    """The LoRAs that the modules of a model carry.

    Weights are changed in place: `W + strength * alpha / rank * up @ down` for all LoRAs together, from the weights as
    they were, summed in float32 and then cast. The weights as they were are kept, in main memory.

    Args:
        modules: "transformer" and "text_encoder" -> module.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.uses: list[Use] = []
        self._modules = modules
        self._originals: dict[tuple[str, str], Tensor] = {}

    def add(self, path: str | Path, strength: float = 1.0, text_strength: float | None = None) -> Lora:
        """Reads a LoRA and merges it, on top of those that are there.

        Args:
            path: see `read_lora`.
            strength: -100..100, for the transformer; negative takes the style away.
            text_strength: for the text encoder; None is `strength`.

        Raises:
            AmusedError: see `read_lora` and `fit`, or a strength out of range. The weights are then as before.
        """
        strength = _strength(strength, "strength")
        text = strength if text_strength is None else _strength(text_strength, "text_strength")
        shapes = {
            part: {name: value.shape for name, value in module.named_parameters()}
            for part, module in self._modules.items()
        }
        lora = fit(read_lora(path), shapes)
        self.uses.append(Use(lora, {TRANSFORMER: strength, TEXT_ENCODER: text}))
        try:
            self._merge(self._touched(self.uses[-1]))
        except BaseException:
            self._merge(self._touched(self.uses.pop()))
            raise
        return lora

    def clear(self) -> None:
        """Takes all LoRAs out; the weights are as they were, bit for bit."""
        self.uses.clear()
        self._merge(self._originals)
        self._originals.clear()

    def _touched(self, use: Use) -> list[tuple[str, str]]:
        return [(part, name) for part, changes in use.lora.parts.items() if use.strengths[part] for name in changes]

    @torch.no_grad()
    def _merge(self, places: Mapping[tuple[str, str], Tensor] | list[tuple[str, str]]) -> None:
        """Computes the weights of these (part, name) anew, from the originals and all LoRAs in use."""
        for part, name in places:
            weight = self._modules[part].get_parameter(name)
            if (part, name) not in self._originals:
                self._originals[part, name] = weight.detach().to("cpu", copy=True)
            original = self._originals[part, name].to(weight.device)
            uses = [use for use in self.uses if name in use.lora.parts[part] and use.strengths[part]]
            changed = original.float() if uses else original
            for use in uses:
                changed = use.lora.parts[part][name].added_to(changed, use.strengths[part])
            weight.copy_(changed)


def _strength(value: float, name: str) -> float:
    return inputs.number(value, name, -MAX_STRENGTH, MAX_STRENGTH)
