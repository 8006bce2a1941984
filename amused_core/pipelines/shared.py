"""Our U-ViT on the weights of a diffusers `UVit2DModel`."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from diffusers import UVit2DModel
from torch import nn

from ..networks.uvit import UVit
from ..networks.uvit.config import UVitConfig


class _Twin(NamedTuple):
    """Our U-ViT for a `UVit2DModel`, and what the latter's modules are as long as nobody has changed them."""

    uvit: UVit
    classes: list[type[nn.Module]]


# Weak: the weights go when the last pipeline that holds the model goes.
_twins: WeakKeyDictionary[nn.Module, _Twin] = WeakKeyDictionary()


def shared_uvit(model: nn.Module) -> UVit | None:
    """Our U-ViT with the very Parameters of `model`, linked anew on each call.

    Returns:
        None where `model` does more than its class says (LoRA, quantised layers, offload and cache hooks, its own
        attention processors, torch.compile): then it must be called itself.
    """
    if type(model) is not UVit2DModel:
        return None
    twin = _twins.get(model)
    if twin is None:
        twin = _twins[model] = _build(model)
    modules = list(model.modules())
    if [_kind(module) for module in modules] != twin.classes or not all(map(_untouched, modules)):
        return None
    for name, parameter in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        setattr(twin.uvit.get_submodule(owner), leaf, parameter)
    return twin.uvit


def _build(model: UVit2DModel) -> _Twin:
    with torch.device("meta"):
        plain = UVit2DModel.from_config(model.config)
    uvit = UVit(UVitConfig.from_dict(model.config), device="meta").eval()
    return _Twin(uvit, [_kind(module) for module in plain.modules()])


def _kind(module: nn.Module) -> tuple[type, type]:
    """A module's class, and that of its attention processor where it has one."""
    return type(module), type(getattr(module, "processor", None))


def _untouched(module: Any) -> bool:
    """Whether calling `module` runs its class's `forward` and nothing else."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    patched = getattr(module.forward, "__func__", None) is not type(module).forward
    return not (hooks or patched or module._compiled_call_impl)
