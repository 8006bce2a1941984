"""A faster decoder of the VQ-GAN for CPUs, built from diffusers' own: the same weights, the same picture, less work.

Activations lie channels last. Residual blocks and upsamplings do their 3x3 convolutions by Winograd's method, and norm,
activation and residual with them, on the rows in hand. Pictures differ from diffusers' by rounding: at most one 8-bit
level.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .kernels import linear
from .prompted import fingerprint
from .winograd import Affine, WinogradConv, WinogradUpsample, winograd_bytes

# Winograd's weights are up to four times the size: this much memory at most, and this share of what is free.
MOST_BYTES, MOST_SHARE = 512 * 2**20, 1 / 8
# Below, the transforms cost more than the products they save.
FEWEST_CHANNELS = 128

_built: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = WeakKeyDictionary()


def fast_decoder(vq: Any) -> nn.Module | None:
    """The faster twin of `vq.decoder` (`VQModel`), or None where it has no use: off the CPU, or in another dtype.

    None, too, where somebody has put hooks or methods of their own on it. It decodes one picture at a time, shares the
    weights, and is built once, and anew when they change.
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


class Spare(threading.local):
    """Memory of activations that are done with: large ones come from the system a page at a time, which is slow.

    Each thread has its own: two may draw with one model.
    """

    def __init__(self) -> None:
        self._free: list[Tensor] = []

    def take(self, shape: Sequence[int]) -> Tensor:
        """An uninitialised fp32 tensor, in spare memory where there is enough of it in one piece."""
        size = math.prod(shape)
        place = next((i for i, flat in enumerate(self._free) if len(flat) >= size), None)
        flat = torch.empty(size, dtype=torch.float32) if place is None else self._free.pop(place)
        return flat[:size].view(shape)

    def give(self, x: Tensor) -> None:
        """Takes the memory of a tensor that nobody will look at again."""
        self._free.append(x.as_strided((x.untyped_storage().nbytes() // x.itemsize,), (1,), 0))

    def clear(self) -> None:
        """Gives all of it back."""
        self._free.clear()


class Upsample(nn.Module):
    """diffusers' `Upsample2D` with its convolution; uses up its input."""

    def __init__(self, block: nn.Module, spare: Spare) -> None:
        super().__init__()
        self.conv, self.spare = WinogradUpsample(block.conv), spare

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        """[1,C,h,w] -> [1,K,2h,2w], channels last."""
        picture = _picture(x)
        larger = self.conv(picture, self.spare.take(self.conv.shape(picture)))
        self.spare.give(picture)
        return _planes(larger)


class Resnet(nn.Module):
    """diffusers' `ResnetBlock2D` without a time embedding; uses up its input."""

    def __init__(self, block: nn.Module, spare: Spare) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, WinogradConv(block.conv1)
        self.norm2, self.conv2 = block.norm2, WinogradConv(block.conv2)
        self.shortcut, self.spare = block.conv_shortcut, spare

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """[1,C,h,w] -> [1,K,h,w], channels last."""
        picture = _picture(x)
        inner = self.conv1(picture, self.spare.take(self.conv1.shape(picture)), _affine(self.norm1, picture))
        out = picture if self.shortcut is None else self._pointwise(picture)
        self.conv2(inner, out, _affine(self.norm2, inner), add=True)
        self.spare.give(inner)
        return _planes(out)

    def _pointwise(self, picture: Tensor) -> Tensor:
        out = self.spare.take(self.conv1.shape(picture))
        # A few rows at a time need no memory to speak of.
        for rows, target in zip(picture.split(8), out.split(8), strict=True):
            target.copy_(linear(rows, self.shortcut.weight.detach().flatten(1), self.shortcut.bias))
        self.spare.give(picture)
        return out


class Ending(nn.Module):
    """The decoder's last three: norm, activation and convolution; uses up its input."""

    def __init__(self, norm: nn.GroupNorm, conv: nn.Conv2d, spare: Spare) -> None:
        super().__init__()
        self.norm, self.conv, self.spare = norm, WinogradConv(conv), spare

    def forward(self, x: Tensor) -> Tensor:
        """[1,C,h,w] -> [1,K,h,w], channels last."""
        picture = _picture(x)
        out = self.conv(picture, x.new_empty(self.conv.shape(picture)), _affine(self.norm, picture))
        self.spare.give(picture)
        return _planes(out)


def _picture(x: Tensor) -> Tensor:
    """[1,C,H,W] channels last -> [H,W,C]."""
    return x[0].permute(1, 2, 0)


def _planes(picture: Tensor) -> Tensor:
    """[H,W,C] -> [1,C,H,W] channels last."""
    return picture.permute(2, 0, 1)[None]


def _affine(norm: nn.GroupNorm, picture: Tensor) -> Affine:
    """What `norm` comes to for a picture [H,W,C]; the statistics of the groups are put together in double precision."""
    means, variances = torch.batch_norm_update_stats(_planes(picture), None, None, 0.0)
    means, variances = (value.double().view(norm.num_groups, -1) for value in (means, variances))
    mean = means.mean(1, keepdim=True)
    variance = (variances + (means - mean).square()).mean(1, keepdim=True)
    gain = norm.weight.double().view_as(means) * (variance + norm.eps).rsqrt()
    shift = norm.bias.double().view_as(means) - mean * gain
    return Affine(gain.flatten().float(), shift.flatten().float())


def _twin(decoder: nn.Module, budget: float) -> nn.Module:
    """A copy of `decoder` with the very same Parameters and faster modules, those first that need the least memory."""
    twin = copy.deepcopy(decoder, {id(weight): weight for weight in decoder.parameters()})
    twin.spare = Spare()
    blocks = [(name, module, _bytes(module)) for name, module in twin.named_modules()]
    for name, module, size in sorted((block for block in blocks if block[2]), key=lambda block: block[2]):
        budget -= size
        if budget < 0:
            break
        twin.set_submodule(name, (Upsample if _upsamples(module) else Resnet)(module, twin.spare))
    if isinstance(twin.conv_norm_out, nn.GroupNorm) and isinstance(twin.conv_act, nn.SiLU) and _large(twin.conv_out):
        twin.conv_out = Ending(twin.conv_norm_out, twin.conv_out, twin.spare)
        twin.conv_norm_out = twin.conv_act = nn.Identity()
    return twin


def _touched(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _bytes(module: nn.Module) -> int:
    """What the transformed weights of a block would take; 0 where there is no faster one."""
    if _upsamples(module):
        return winograd_bytes(module.conv, WinogradUpsample)
    if not _plain_resnet(module):
        return 0
    return sum(winograd_bytes(conv, WinogradConv) for conv in (module.conv1, module.conv2))


def _upsamples(module: nn.Module) -> bool:
    return (
        type(module).__name__ == "Upsample2D"
        and (module.name, module.interpolate, module.norm) == ("conv", True, None)
        and module.use_conv
        and _large(module.conv)
    )


def _plain_resnet(module: nn.Module) -> bool:
    return (
        type(module).__name__ == "ResnetBlock2D"
        and (module.time_emb_proj, module.upsample, module.downsample) == (None, None, None)
        and module.time_embedding_norm in ("default", "group")
        and module.output_scale_factor == 1
        and isinstance(module.nonlinearity, nn.SiLU)
        and _large(module.conv1)
        and _large(module.conv2)
    )


def _large(conv: nn.Module) -> bool:
    return (
        isinstance(conv, nn.Conv2d)
        and conv.in_channels >= FEWEST_CHANNELS
        and (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))
        and (conv.groups, conv.dilation, conv.padding_mode) == (1, (1, 1), "zeros")
    )


def _budget() -> float:
    import psutil

    return min(MOST_BYTES, psutil.virtual_memory().available * MOST_SHARE)
