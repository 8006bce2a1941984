"""The optimized decoder: which of a decoder's parts have a faster form, and how it is built."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..changes import Blueprint, genuine
from ..weights import weights_version
from .blocks import Ending, Norm, Resnet, Upsample
from .spare import Spare
from .winograd import WinogradConv, WinogradUpsample, winograd_bytes

# Winograd's weights are up to four times the size: this much memory at most, and this share of what is free.
MOST_BYTES, MOST_SHARE = 512 * 2**20, 1 / 8
# Below, the transforms cost more than the products they save.
FEWEST_CHANNELS = 128

_blueprints: WeakKeyDictionary[nn.Module, Blueprint] = WeakKeyDictionary()
_built: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = WeakKeyDictionary()


def fast_decoder(vq: Any) -> nn.Module | None:
    """The optimized copy of `vq.decoder` (`VQModel`), or None where it has no use: off the CPU, or in another dtype.

    None, too, where somebody has changed what it does (`Blueprint.fits`). It decodes one picture at a time, shares the
    weights, and is built once, and anew when they change.
    """
    weights = list(vq.decoder.parameters())
    if any(weight.device.type != "cpu" or weight.dtype != torch.float32 for weight in weights):
        return None
    if vq.config.norm_type == "spatial" or not vq.config.lookup_from_codebook:
        return None
    if not _as_built(vq):
        return None
    state = weights_version(vq.decoder)
    known = _built.get(vq)
    if known is None or known[0] != state:
        known = _built[vq] = (state, _optimize(vq.decoder, _budget()))
    return known[1]


def _optimize(decoder: nn.Module, budget: float) -> nn.Module:
    """A copy of `decoder` with the very same Parameters and faster modules, those first that need the least memory."""
    optimized = copy.deepcopy(decoder, {id(weight): weight for weight in decoder.parameters()})
    optimized.spare = Spare()
    blocks = [(name, module, _bytes(module)) for name, module in optimized.named_modules()]
    for name, module, size in sorted((block for block in blocks if block[2]), key=lambda block: block[2]):
        budget -= size
        if budget < 0:
            break
        optimized.set_submodule(name, (Upsample if _upsamples(module) else Resnet)(module, optimized.spare))
    if (
        isinstance(optimized.conv_norm_out, nn.GroupNorm)
        and isinstance(optimized.conv_act, nn.SiLU)
        and _large(optimized.conv_out)
    ):
        optimized.conv_out = Ending(optimized.conv_norm_out, optimized.conv_out, optimized.spare)
        optimized.conv_norm_out = optimized.conv_act = nn.Identity()
    # Blocks that no memory was left for; those of fewer channels are in small decoders, which run on one thread.
    for module in list(optimized.modules()):
        if _plain_resnet(module):
            module.norm1, module.norm2 = Norm(module.norm1), Norm(module.norm2)
    return optimized


def _as_built(vq: Any) -> bool:
    """Whether decoding runs diffusers' own methods, in the decoder that the config describes."""
    from diffusers import VQModel

    if type(vq) is not VQModel or "decode" in vars(vq) or not genuine(VQModel, ("decode",)):
        return False
    if vq not in _blueprints:
        with torch.device("meta"):
            _blueprints[vq] = Blueprint(VQModel.from_config(vq.config).decoder)
    return _blueprints[vq].fits(vq.decoder)


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
