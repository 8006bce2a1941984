"""ComfyUI's layers for the U-ViT: they cast and offload their weights, and stop when the user cancels."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.ops
import torch
from torch import Tensor, nn

from ....amused_core.networks import layers as core
from .. import compat


class RMSNorm(core.RMSNorm, comfy.ops.CastWeightBiasOp):
    """The core's norm with a weight that may be elsewhere, in another dtype, or patched on the fly."""

    bias = None

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., dim] -> the same shape and dtype."""
        weight = None if self.weight is None else comfy.ops.cast_bias_weight(self, x)[0]
        return core.rms_norm(x, weight, self.eps)


class GlobalResponseNorm(core.GlobalResponseNorm):
    """The core's norm with weights that may be elsewhere or in another dtype; see `patch_response_norms`."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B,h,w,dim] -> the same shape and dtype."""
        gamma, beta = (comfy.model_management.cast_to_device(p, x.device, x.dtype) for p in (self.gamma, self.beta))
        return core.global_response_norm(x, gamma, beta)


def _fast(layer: type[nn.Module], own: type[nn.Module]) -> type[nn.Module]:
    """ComfyUI's layer that does as the core's `own` where the weights need no cast: it calls its next class's."""
    return type(own.__name__, (layer, own), {})


def comfy_layers(weight_dtype: torch.dtype, compute_dtype: torch.dtype | None) -> core.Layers:
    """ComfyUI's layers for weights of one dtype computed in another (None: in their own)."""
    ops: Any = comfy.ops.pick_operations(weight_dtype, compute_dtype)
    return core.Layers(
        Linear=_fast(ops.Linear, core.Linear),
        Conv2d=_fast(ops.Conv2d, core.Conv2d),
        ConvTranspose2d=ops.ConvTranspose2d,
        Embedding=ops.Embedding,
        LayerNorm=ops.LayerNorm,
        RMSNorm=RMSNorm,
        GlobalResponseNorm=GlobalResponseNorm,
    )


def patch_response_norms(patcher: Any, device: Any, *_: Any) -> None:
    """After a (partial) load (`CallbacksMP.ON_LOAD`): puts the few response norms that were left out on the device too.

    ComfyUI patches offloaded layers on the fly only where the weights are called `weight` and `bias`; these have
    other names, and a merge would pass them by.
    """
    for name, module in patcher.model.named_modules():
        if isinstance(module, GlobalResponseNorm) and not getattr(module, "comfy_patched_weights", False):
            for key in ("gamma", "beta"):
                patcher.patch_weight_to_device(f"{name}.{key}", device_to=device)
            module.to(device)
            module.comfy_patched_weights = True


def patch_left_out(patcher: Any, *_: Any) -> None:
    """After a (partial) load (`CallbacksMP.ON_LOAD`): patches the weights that ComfyUI passed by.

    It takes a layer that was loaded whole before, and now stays outside, for one that has its patches already.
    """
    for key in patcher.patches.keys() - patcher.backup.keys():
        layer, _, kind = key.rpartition(".")
        if not getattr(patcher.model.get_submodule(layer), f"{kind}_function", None):
            compat.patch_weight(patcher, key)
