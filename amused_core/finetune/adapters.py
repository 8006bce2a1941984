"""LoRA layers, carried by peft, and their weights in diffusers' format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..errors import AmusedError

ADAPTER = "default"


def missing_package(package: str) -> AmusedError:
    """The error for a package that training needs and that is not there."""
    return AmusedError(f"Training needs the package {package!r}; install it with: pip install {package}")


def add_lora(module: nn.Module, rank: int, alpha: float, targets: Sequence[str], generator: Generator) -> None:
    """Freezes `module` and adds an fp32 LoRA to its layers whose names end in one of `targets`.

    Starts as no change: A is random (Kaiming, from `generator`), B is zero.

    Raises:
        AmusedError: peft is not installed, or it finds no such layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer
    except ImportError:
        raise missing_package("peft") from None
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), lora_dropout=0.0, bias="none")
    module.requires_grad_(False)
    try:
        with torch.random.fork_rng(devices=[]):  # peft draws start values that are replaced below
            inject_adapter_in_model(config, module, ADAPTER)
    except ValueError as error:
        there = sorted(
            {name.rpartition(".")[2] for name, part in module.named_modules() if isinstance(part, nn.Linear)}
        )
        raise AmusedError(
            f"targets are {', '.join(map(repr, targets))}, which no LoRA can be added to ({error}); layers of this "
            f"model end in {', '.join(there)}."
        ) from error
    for layer in module.modules():
        if isinstance(layer, LoraLayer):
            down, up = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
            start = torch.empty(down.weight.shape)
            nn.init.kaiming_uniform_(start, a=5**0.5, generator=generator)
            down.weight.data = start.to(down.weight.device)
            up.weight.data = torch.zeros(up.weight.shape, device=up.weight.device)


def lora_state(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The LoRA in `module` as `<prefix>.<layer>.lora_A.weight` and `.lora_B.weight`, fp32 on the CPU.

    `alpha / rank` is multiplied into B, so that every reader adds `B @ A` as it is: files in diffusers' format say
    nothing of alpha, and its readers take alpha = rank.
    """
    from peft.tuners.lora import LoraLayer

    state = {}
    for name, layer in module.named_modules():
        if isinstance(layer, LoraLayer):
            scale = layer.scaling[ADAPTER]
            parts: dict[str, Any] = {"lora_A": (layer.lora_A, 1.0), "lora_B": (layer.lora_B, scale)}
            for part, (weights, factor) in parts.items():
                value = weights[ADAPTER].weight.detach().float().cpu() * factor
                state[f"{prefix}.{name}.{part}.weight"] = value.contiguous()
    return state
