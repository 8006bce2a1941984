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


class SharedTransformer(NamedTuple):
    """Our U-ViT for a `UVit2DModel`, and what the latter is like as long as nobody has changed it."""

    uvit: UVit
    blueprint: Blueprint


# Weak: the weights go when the last pipeline that holds the model goes.
_shared: WeakKeyDictionary[nn.Module, SharedTransformer] = WeakKeyDictionary()


def shared_uvit(model: nn.Module) -> UVit | None:
    """Our U-ViT with the very Parameters of `model`, linked anew on each call.

    Returns:
        None where `model` does more than its class says (LoRA, quantised layers, offload and cache hooks, its own
        attention processors, torch.compile): then it must be called itself.
    """
    if type(model) is not UVit2DModel:
        return None
    shared = _shared.get(model)
    if shared is None:
        shared = _shared[model] = _build(model)
    if not shared.blueprint.fits(model):
        return None
    for name, parameter in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        setattr(shared.uvit.get_submodule(owner), leaf, parameter)
    return shared.uvit


def _build(model: UVit2DModel) -> SharedTransformer:
    with torch.device("meta"):
        plain = UVit2DModel.from_config(model.config)
    uvit = UVit(UVitConfig.from_dict(model.config), device="meta").eval()
    return SharedTransformer(uvit, Blueprint(plain))
