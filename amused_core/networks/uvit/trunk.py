"""The transformer layers between the two convolutional ends: self-attention, attention to the text, feed-forward."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import OBSERVER, Attend
from ..layers import Layers
from .config import UVitConfig
from .repeats import REPEATS

# The name of the attention to the text.
TEXT = "attn2"


class KeysValues(NamedTuple):
    """What an attention looks at: `keys` and `values` [B,M,C]."""

    keys: Tensor
    values: Tensor


class Modulation(NamedTuple):
    """What a condition makes of normed activations: `x * gain + shift`, each of a shape that broadcasts to `x`."""

    gain: Tensor
    shift: Tensor


class LayerCondition(NamedTuple):
    """What a trunk layer takes from text and condition; constant over a run."""

    norm1: Modulation
    norm2: Modulation
    norm3: Modulation
    text: KeysValues


class Attention(nn.Module):
    """Queries from `x`; keys and values from the text, or from `x` as well (self-attention)."""

    def __init__(self, dim: int, heads: int, name: str, bias: bool, dropout: float, layers: Layers, **kw: Any) -> None:
        super().__init__()
        self.heads = heads
        self.name = name
        self.to_q = layers.Linear(dim, dim, bias=bias, **kw)
        self.to_k = layers.Linear(dim, dim, bias=bias, **kw)
        self.to_v = layers.Linear(dim, dim, bias=bias, **kw)
        self.to_out = nn.ModuleList([layers.Linear(dim, dim, bias=bias, **kw), nn.Dropout(dropout)])

    def project_kv(self, context: Tensor) -> KeysValues:
        """Keys and values of `context` [B,M,C]."""
        return KeysValues(self.to_k(context), self.to_v(context))

    def forward(self, x: Tensor, seen: KeysValues | None, attend: Attend, options: dict[str, Any]) -> Tensor:
        """`x` [B,N,C], `seen` what it looks at (None: itself) -> [B,N,C]."""
        q = self.to_q(x)
        if seen is None:
            seen = self.project_kv(x)
            if REPEATS in options:
                seen = KeysValues(*map(options[REPEATS].spread, seen))
        k, v = seen
        if self.name == TEXT and OBSERVER in options:
            cells = options[REPEATS].spread(q) if REPEATS in options else q
            options[OBSERVER](cells, k, self.heads, options)
        out = attend(q, k, v, self.heads, self.name, options)
        return self.to_out[1](self.to_out[0](out))


class AdaNorm(nn.Module):
    """A norm whose scale and shift come from the pooled condition (diffusers' `AdaLayerNormContinuous`)."""

    def __init__(self, norm: nn.Module, dim: int, bias: bool, layers: Layers, **kw: Any) -> None:
        super().__init__()
        self.linear = layers.Linear(dim, dim * 2, bias=bias, **kw)
        self.norm = norm

    def modulation(self, cond: Tensor) -> Modulation:
        """`cond` [B,C] after SiLU -> gain and shift [B,1,C]."""
        scale, shift = self.linear(cond)[:, None].chunk(2, dim=-1)
        return Modulation(1 + scale, shift)

    def forward(self, x: Tensor, modulation: Modulation) -> Tensor:
        """`x` [B,N,C] -> [B,N,C]."""
        return torch.addcmul(modulation.shift, self.norm(x), modulation.gain)


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

    def condition(self, text: Tensor, cond: Tensor) -> LayerCondition:
        """`text` [B,L,C], `cond` [B,C] after SiLU -> all that `forward` takes from them."""
        norms = (norm.modulation(cond) for norm in (self.norm1, self.norm2, self.norm3))
        return LayerCondition(*norms, self.attn2.project_kv(text))

    def forward(self, x: Tensor, given: LayerCondition, attend: Attend, options: dict[str, Any]) -> Tensor:
        """`x` [B,N,C] -> [B,N,C]."""
        x = x + self.attn1(self.norm1(x, given.norm1), None, attend, options)
        x = x + self.attn2(self.norm2(x, given.norm2), given.text, attend, options)
        return x + self.ff(self.norm3(x, given.norm3))


def sinusoid(values: Tensor, dim: int) -> Tensor:
    """Cosines then sines of `values` [B,n] at `dim // 2` frequencies from 1 to 1e-4 -> fp32 [B, n*dim].

    diffusers' `get_timestep_embedding` with `flip_sin_to_cos=True, downscale_freq_shift=0`.
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=values.device)
    angles = values.float()[..., None] * torch.exp(steps * (-torch.log(torch.tensor(10000.0)) / half).to(values.device))
    return torch.cat([angles.cos(), angles.sin()], dim=-1).flatten(1)
