"""A faster decoder of the VQ-GAN for CPUs, built from diffusers' own: the same weights, the same picture, less work.

Activations lie channels last; an upsampling and the convolution after it become four small convolutions; large 3x3
convolutions are done by Winograd's method. Pictures differ from diffusers' by rounding: at most one 8-bit level.
"""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kernels import linear
from .prompted import fingerprint
from .winograd import WinogradConv, winograd_bytes

# Winograd's weights are four times the size: this much memory at most, and this share of what is free.
MOST_BYTES, MOST_SHARE = 512 * 2**20, 1 / 8
# Below, a call's overhead eats what the method saves.
FEWEST_CHANNELS = 128

_built: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = WeakKeyDictionary()


def fast_decoder(vq: Any) -> nn.Module | None:
    """The faster twin of `vq.decoder` (`VQModel`), or None where it has no use: off the CPU, or in another dtype.

    None, too, where somebody has put hooks or methods of their own on it. It shares the weights, and is
    built once, and anew when they change.
    """
    weights = list(vq.decoder.parameters())
    if any(weight.device.type != "cpu" or weight.dtype != torch.float32 for weight in weights):
        return None
    if vq.config.norm_type == "spatial" or not vq.config.lookup_from_codebook:
        return None
    if "decode" in vars(vq) or any(map(_touched, vq.decoder.modules())):
        return None
    state = fingerprint(vq.decoder)
    known = _built.get(vq)
    if known is None or known[0] != state:
        known = _built[vq] = (state, _twin(vq.decoder, _budget()))
    return known[1]


class PointwiseConv(nn.Module):
    """A 1x1 convolution as the matrix product it is."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight.flatten(1), conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,h,w] -> [B,K,h,w], channels last."""
        return linear(x.permute(0, 2, 3, 1), self.weight.detach(), self.bias).permute(0, 3, 1, 2)


class FoldedUpsample(nn.Module):
    """Nearest-neighbour upsampling by 2 and a 3x3 convolution, as four 2x2 convolutions: 4/9 of the products.

    Each output pixel sees only 2x2 different inputs, and which of the nine weights fall on one of them depends on
    whether its row and column are even.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self.weights = [[_fold(_fold(weight, 2, a), 3, b).contiguous() for b in (0, 1)] for a in (0, 1)]
        self.bias = conv.bias

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        """[B,C,h,w] -> [B,K,2h,2w]."""
        height, width = x.shape[-2:]
        padded = F.pad(x, (1, 1, 1, 1))
        out = torch.empty(len(x), len(self.weights[0][0]), 2 * height, 2 * width, memory_format=torch.channels_last)
        for a in (0, 1):
            for b in (0, 1):
                seen = padded[..., a : a + height + 1, b : b + width + 1]
                out[..., a::2, b::2] = F.conv2d(seen, self.weights[a][b], self.bias)
        return out


def _fold(weight: Tensor, dim: int, odd: int) -> Tensor:
    """Adds up the weights that fall on the same pixel in an even or odd row (or column): 3 -> 2 along `dim`."""
    first, second, third = weight.unbind(dim)
    return torch.stack([first + second, third] if odd else [first, second + third], dim)


def _twin(decoder: nn.Module, budget: float) -> nn.Module:
    """A copy of `decoder` with the very same Parameters and faster modules."""
    twin = copy.deepcopy(decoder, {id(weight): weight for weight in decoder.parameters()})
    for name, module in list(twin.named_modules()):
        if type(module).__name__ == "Upsample2D" and module.use_conv and module.name == "conv":
            twin.set_submodule(name, FoldedUpsample(module.conv))
        elif isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            twin.set_submodule(name, PointwiseConv(module))
        elif isinstance(module, nn.SiLU):
            module.inplace = True  # What it is given was made by the norm before it, for it alone.
    large = [(name, module) for name, module in twin.named_modules() if _large(module)]
    for name, module in sorted(large, key=lambda item: winograd_bytes(item[1])):
        budget -= winograd_bytes(module)
        if budget < 0:
            break
        twin.set_submodule(name, WinogradConv(module))
    return twin


def _touched(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _large(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and (module.kernel_size, module.stride, module.padding) == ((3, 3), (1, 1), (1, 1))
        and (module.groups, module.dilation) == (1, (1, 1))
        and min(module.in_channels, module.out_channels) >= FEWEST_CHANNELS
    )


def _budget() -> float:
    import psutil

    return min(MOST_BYTES, psutil.virtual_memory().available * MOST_SHARE)
