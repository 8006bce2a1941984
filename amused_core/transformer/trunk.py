"""The transformer layers between the two convolutional ends: self-attention, attention to the text, feed-forward."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import Attend
from ..config import UVitConfig
from ..layers import Layers


class Attention(nn.Module):
    """Queries from `x`, keys and values from `context` (self-attention where they are the same)."""

    def __init__(self, dim: int, heads: int, name: str, bias: bool, dropout: float, layers: Layers, **kw: Any) -> None:
        super().__init__()
        self.heads = heads
        self.name = name
        self.to_q = layers.Linear(dim, dim, bias=bias, **kw)
        self.to_k = layers.Linear(dim, dim, bias=bias, **kw)
        self.to_v = layers.Linear(dim, dim, bias=bias, **kw)
        self.to_out = nn.ModuleList([layers.Linear(dim, dim, bias=bias, **kw), nn.Dropout(dropout)])

    def forward(self, x: Tensor, context: Tensor, attend: Attend, options: dict[str, Any]) -> Tensor:
        """`x` [B,N,C], `context` [B,M,C] -> [B,N,C]."""
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        out = attend(q, k, v, self.heads, self.name, options)
        return self.to_out[1](self.to_out[0](out))


class AdaNorm(nn.Module):
    """A norm whose scale and shift come from the pooled condition (diffusers' `AdaLayerNormContinuous`)."""

    def __init__(self, norm: nn.Module, dim: int, bias: bool, layers: Layers, **kw: Any) -> None:
        super().__init__()
        self.linear = layers.Linear(dim, dim * 2, bias=bias, **kw)
        self.norm = norm

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """`x` [B,N,C], `cond` [B,C] after SiLU -> [B,N,C]."""
        scale, shift = self.linear(cond)[:, None].chunk(2, dim=-1)
        return self.norm(x) * (1 + scale) + shift


class GEGLU(nn.Module):
    """Gated GELU (Shazeer 2020)."""

    def __init__(self, dim: int, inner: int, bias: bool, layers: Layers, **kw: Any) -> None:
        super().__init__()
        self.proj = layers.Linear(dim, inner * 2, bias=bias, **kw)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B,N,C] -> [B,N,inner]."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU, dropout, linear."""

    def __init__(self, dim: int, inner: int, bias: bool, dropout: float, layers: Layers, **kw: Any) -> None:
        super().__init__()
        out = layers.Linear(inner, dim, bias=bias, **kw)
        self.net = nn.Sequential(GEGLU(dim, inner, bias, layers, **kw), nn.Dropout(dropout), out)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B,N,C] -> [B,N,C]."""
        return self.net(x)


class TransformerLayer(nn.Module):
    """One layer of the trunk (diffusers' `BasicTransformerBlock` with `ada_norm_continuous`)."""

    def __init__(self, config: UVitConfig, layers: Layers, **kw: Any) -> None:
        super().__init__()
        dim, bias, eps = config.hidden_size, config.use_bias, config.layer_norm_eps
        affine, heads, dropout = config.ln_elementwise_affine, config.num_attention_heads, config.hidden_dropout
        self.norm1 = AdaNorm(layers.RMSNorm(dim, eps, affine, **kw), dim, bias, layers, **kw)
        self.attn1 = Attention(dim, heads, "attn1", bias, dropout, layers, **kw)
        self.norm2 = AdaNorm(layers.RMSNorm(dim, eps, affine, **kw), dim, bias, layers, **kw)
        self.attn2 = Attention(dim, heads, "attn2", bias, dropout, layers, **kw)
        self.norm3 = AdaNorm(layers.LayerNorm(dim, eps, affine, bias=bias, **kw), dim, bias, layers, **kw)
        self.ff = FeedForward(dim, config.intermediate_size, bias, dropout, layers, **kw)

    def forward(self, x: Tensor, text: Tensor, cond: Tensor, attend: Attend, options: dict[str, Any]) -> Tensor:
        """`x` [B,N,C], `text` [B,L,C], `cond` [B,C] after SiLU -> [B,N,C]."""
        normed = self.norm1(x, cond)
        x = x + self.attn1(normed, normed, attend, options)
        x = x + self.attn2(self.norm2(x, cond), text, attend, options)
        return x + self.ff(self.norm3(x, cond))


def sinusoid(values: Tensor, dim: int) -> Tensor:
    """Cosines then sines of `values` [B,n] at `dim // 2` frequencies from 1 to 1e-4 -> fp32 [B, n*dim].

    diffusers' `get_timestep_embedding` with `flip_sin_to_cos=True, downscale_freq_shift=0`.
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=values.device)
    angles = values.float()[..., None] * torch.exp(steps * (-torch.log(torch.tensor(10000.0)) / half).to(values.device))
    return torch.cat([angles.cos(), angles.sin()], dim=-1).flatten(1)
