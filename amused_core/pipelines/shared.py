"""Our U-ViT on the weights of a diffusers `UVit2DModel`."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from diffusers import UVit2DModel
from torch import nn

from ..networks.changes import Blueprint
from ..networks.uvit import UVit
from ..networks.uvit.config import UVitConfig


class _Twin(NamedTuple):
    """Our U-ViT for a `UVit2DModel`, and what the latter is like as long as nobody has changed it."""

    uvit: UVit
    blueprint: Blueprint


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
    if not twin.blueprint.fits(model):
        return None
    for name, parameter in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        setattr(twin.uvit.get_submodule(owner), leaf, parameter)
    return twin.uvit


def _build(model: UVit2DModel) -> _Twin:
    with torch.device("meta"):
        plain = UVit2DModel.from_config(model.config)
    uvit = UVit(UVitConfig.from_dict(model.config), device="meta").eval()
    return _Twin(uvit, Blueprint(plain))
