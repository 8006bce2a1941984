"""Seeded initial weights of the VQ-GAN, chosen from data.

A GroupNorm with two channels per group erases flat colour. So every group starts with one channel far above and one far
below zero: the norm is then nearly the identity on what varies, and training starts at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

_SPREAD = 2.0  # distance of the channel means from zero, in standard deviations of the signal


def _draw_weights(model: nn.Module, generator: Generator) -> None:
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            scale = 0.3 if name.endswith("conv2") else 1.0
            module.weight.normal_(0, scale * fan_in**-0.5, generator=generator)
            if module.bias is not None:
                module.bias.zero_()


def _anchor(norm: nn.GroupNorm, producer: nn.Conv2d, hidden: Tensor) -> None:
    """Shift the output of `producer` so that `norm`, which reads `hidden` `[B, C, h, w]`, starts as the identity."""
    mean = hidden.mean((0, 2, 3))
    deviation = hidden.var((0, 2, 3)).mean().sqrt().clamp_min(1e-3)
    sign = torch.ones_like(mean)
    sign[1::2] = -1
    producer.bias += sign * _SPREAD * deviation - mean
    norm.weight.fill_((1 + _SPREAD**2) ** 0.5)
    norm.bias.copy_(-sign * _SPREAD)


class _NormReached(Exception):
    """Ends the forward pass once a norm has been anchored."""


@torch.no_grad()
def anchor_norms(model: nn.Module, run: Callable[[], Any]) -> None:
    """Anchor every GroupNorm of `model` in the order in which `run()` reaches them."""
    done: set[nn.Module] = set()
    latest: list[nn.Conv2d] = []

    def on_conv(module: nn.Module, args: tuple, output: Tensor) -> None:
        latest[:] = [module]

    def on_norm(module: nn.Module, args: tuple) -> None:
        if module not in done:
            done.add(module)
            _anchor(module, latest[0], args[0])
            raise _NormReached

    hooks = [m.register_forward_hook(on_conv) for m in model.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(on_norm) for m in model.modules() if isinstance(m, nn.GroupNorm)]
    try:
        while True:
            try:
                run()
                return
            except _NormReached:
                continue
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def init_vq(model: nn.Module, pictures: Tensor, generator: Generator) -> None:
    """Give diffusers' `VQModel` its initial weights, using float `pictures` `[B, 3, H, W]` to place the norms."""
    _draw_weights(model, generator)
    anchor_norms(model, lambda: model.decoder(model.post_quant_conv(model.quant_conv(model.encoder(pictures)))))
    model.decoder.conv_out.bias.fill_(0.7)
