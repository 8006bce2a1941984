"""The decoder in fp16, for GPUs: except the layers whose values fp16 cannot hold.

In fp16 as a whole, the decoder of aMUSEd gives NaNs (diffusers#5437), since some values exceed 65504. In which layers
depends on the weights, so one picture is decoded in fp32 to see.
"""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..weights import weights_version

# A sixteenth of what fp16 can hold: other pictures have other values.
LIMIT = torch.finfo(torch.float16).max / 16

_built: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = WeakKeyDictionary()


def half_decoder(vq: Any, latents: Tensor) -> nn.Module:
    """A copy of `vq.decoder` (`VQModel`) in fp16, channels last, built once, and anew when the weights change.

    Args:
        vq: the model, in fp32.
        latents: float32 [1,C,h,w], what is to be decoded; the layers that stay in fp32 are chosen by it.

    Returns:
        `latents -> pictures`, which are to be looked through for NaNs.
    """
    state = weights_version(vq.decoder)
    known = _built.get(vq)
    if known is None or known[0] != state:
        known = _built[vq] = (state, _halve(vq.decoder, peaks(vq.decoder, latents)))
    return known[1]


def peaks(decoder: nn.Module, latents: Tensor) -> dict[str, float]:
    """The largest absolute value that goes into or comes out of each layer with weights, by its name."""
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[name] = torch.maximum(inputs[0].abs().max(), output.abs().max())

        return hook

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in _layers(decoder)]
    try:
        decoder(latents)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: float(peak) for name, peak in found.items()}


def _halve(decoder: nn.Module, peak: dict[str, float]) -> nn.Module:
    half = copy.deepcopy(decoder).to(memory_format=torch.channels_last)
    for name, layer in _layers(half):
        if peak.get(name, float("inf")) < LIMIT:
            layer.half()
        layer.register_forward_pre_hook(_in_own_dtype)
    return half


def _in_own_dtype(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].to(layer.weight.dtype), *inputs[1:])


def _layers(decoder: nn.Module) -> list[tuple[str, nn.Module]]:
    named = decoder.named_modules()
    return [(name, layer) for name, layer in named if isinstance(getattr(layer, "weight", None), Tensor)]
