"""The decoder in fp16: close to fp32, with the layers that fp16 cannot hold in fp32, and never a damaged picture."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amused_core import load_model
from amused_core.networks import vq as vq_module
from amused_core.networks.decoder import half_decoder
from amused_core.networks.vq import VQ

TOKENS = torch.randint(1024, (1, 6, 5), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def module() -> Any:
    return copy.deepcopy(load_model().vq.module)


def latents_of(module: Any) -> Tensor:
    codes = module.quantize.get_codebook_entry(TOKENS, (*TOKENS.shape, module.config.latent_channels))
    return module.post_quant_conv(codes)


def wide_layers(decoder: nn.Module) -> list[str]:
    return [
        n for n, m in decoder.named_modules() if getattr(m, "weight", None) is not None and m.weight.dtype != torch.half
    ]


@torch.no_grad()
def test_close_to_fp32(module: Any) -> None:
    latents = latents_of(module)
    half = half_decoder(module, latents)
    assert not wide_layers(half)
    assert (half(latents).float() - module.decoder(latents)).abs().max() < 2 / 255
    assert half_decoder(module, latents) is half


@torch.no_grad()
def test_a_layer_of_large_values_stays_in_fp32(module: Any) -> None:
    """The norm behind it takes the scale out again, so the picture is the same."""
    latents = latents_of(module)
    before = module.decoder(latents)
    large = module.decoder.up_blocks[1].resnets[0].conv1
    large.weight.mul_(1e5), large.bias.mul_(1e5)
    assert not torch.isfinite(copy.deepcopy(module.decoder).half()(latents.half())).all(), "as a whole it gives NaNs"
    half = half_decoder(module, latents)
    assert wide_layers(half) == [f"up_blocks.1.resnets.0.{name}" for name in ("conv1", "norm2")]
    assert (half(latents).float() - before).abs().max() < 2 / 255


@torch.no_grad()
def test_a_damaged_picture_is_decoded_again(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vq = VQ(module)
    want = vq.decode(TOKENS)
    assert torch.equal(vq.decode(TOKENS, half=True), want), "a CPU decodes in fp32"
    asked = []
    monkeypatch.setattr(
        vq_module, "half_decoder", lambda *_: lambda x: asked.append(x) or torch.full((1, 3, 48, 40), torch.nan)
    )
    assert torch.allclose(vq._decode(TOKENS, None, True), want, atol=1e-4) and len(asked) == 1
