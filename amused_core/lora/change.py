"""What a LoRA does to one weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """`alpha / rank * up @ down` (Hu et al. 2021).

    Attributes:
        up: float32 [out, rank] or [out, rank, 1, 1].
        down: float32 [rank, in] or, for a convolution, [rank, in, kh, kw].
        alpha: the scale before the division by the rank.
    """

    up: Tensor
    down: Tensor
    alpha: float

    @property
    def shape(self) -> list[int]:
        """The shape of the weight it was made for."""
        return [self.up.shape[0], *self.down.shape[1:]]

    def added_to(self, weight: Tensor, strength: float) -> Tensor:
        """`weight` float32 plus `strength` times the change, on the device of `weight`."""
        up, down = (factor.to(weight.device).flatten(1) for factor in (self.up, self.down))
        scale = strength * (self.alpha / down.shape[0])
        return weight + scale * torch.mm(up, down).reshape(weight.shape)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The change in a file's form, under the name of its module."""
        alpha = torch.tensor(self.alpha, dtype=torch.float64)
        return {f"{name}.lora_up.weight": self.up, f"{name}.lora_down.weight": self.down, f"{name}.alpha": alpha}


@dataclass(frozen=True)
class Difference:
    """A change that is written out, as ComfyUI's extraction of LoRAs makes them for small weights.

    Attributes:
        value: float32, of the weight's shape.
    """

    value: Tensor

    @property
    def shape(self) -> list[int]:
        """The shape of the weight it was made for."""
        return list(self.value.shape)

    def added_to(self, weight: Tensor, strength: float) -> Tensor:
        """`weight` float32 plus `strength` times the change, on the device of `weight`."""
        return weight + strength * self.value.to(weight.device)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The change in a file's form, under the name of its module."""
        return {f"{name}.diff": self.value}


Change = LowRank | Difference
