"""The convolutional ends of the U-ViT: token embedding, down and up blocks, logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import Attend
from ..layers import Layers
from .config import UVitConfig
from .repeats import REPEATS, Repeats
from .trunk import Attention, KeysValues, Modulation


class PairCondition(NamedTuple):
    """What a pair of `ConvNextBlock` and `TextBlock` takes from text and condition; constant over a run."""

    scale: Modulation
    text1: KeysValues
    text2: KeysValues


class TokenEmbed(nn.Module):
    """Token ids to channels: embedding, norm, 1x1 convolution (diffusers' `UVit2DConvEmbed`)."""

    def __init__(self, config: UVitConfig, layers: Layers, **kw: Any) -> None:
        super().__init__()
        dim, out = config.in_channels, config.block_out_channels
        self.embeddings = layers.Embedding(config.vocab_size, dim, **kw)
        self.layer_norm = layers.RMSNorm(dim, config.layer_norm_eps, config.ln_elementwise_affine, **kw)
        self.conv = layers.Conv2d(dim, out, kernel_size=1, bias=config.use_bias, **kw)

    def forward(self, tokens: Tensor, like: Tensor) -> Tensor:
        """`tokens` int64 [B,h,w] -> [B,C,h,w] in the dtype of `like`."""
        x = self.layer_norm(self.embeddings(tokens).to(like.dtype))
        return self.conv(x.permute(0, 3, 1, 2))


class ConvNextBlock(nn.Module):
    """Depth-wise convolution, channel mixing, and scale and shift from the condition. The only source of position."""

    def __init__(self, config: UVitConfig, layers: Layers, **kw: Any) -> None:
        super().__init__()
        dim, bias = config.block_out_channels, config.use_bias
        self.depthwise = layers.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=bias, **kw)
        self.norm = layers.RMSNorm(dim, config.layer_norm_eps, config.ln_elementwise_affine, **kw)
        self.channelwise_linear_1 = layers.Linear(dim, dim * 4, bias=bias, **kw)
        self.channelwise_norm = layers.GlobalResponseNorm(dim * 4, **kw)
        self.channelwise_linear_2 = layers.Linear(dim * 4, dim, bias=bias, **kw)
        self.channelwise_dropout = nn.Dropout(config.hidden_dropout)
        self.cond_embeds_mapper = layers.Linear(config.hidden_size, dim * 2, bias=bias, **kw)

    def modulation(self, cond: Tensor) -> Modulation:
        """`cond` [B,H] after SiLU -> gain and shift [B,C,1,1]."""
        scale, shift = self.cond_embeds_mapper(cond)[:, :, None, None].chunk(2, dim=1)
        return Modulation(1 + scale, shift)

    def forward(self, x: Tensor, modulation: Modulation, repeats: Repeats | None = None) -> Tensor:
        """`x` [B,C,h,w] -> [B,C,h,w]; `repeats` if it is a part of the grid."""
        mixed = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        mixed = self._respond(F.gelu(self.channelwise_linear_1(mixed)), repeats)
        mixed = self.channelwise_dropout(self.channelwise_linear_2(mixed))
        x = x + mixed.permute(0, 3, 1, 2)
        return torch.addcmul(modulation.shift, x, modulation.gain)

    def _respond(self, x: Tensor, repeats: Repeats | None) -> Tensor:
        """The norm over all cells of the grid, `x` [B,h,w,C] being all or those computed."""
        if repeats is None:
            return self.channelwise_norm(x)
        cells = self.channelwise_norm(repeats.spread(x.flatten(1, 2))[:, None])
        return repeats.pick(cells[:, 0]).view_as(x)


class TextBlock(nn.Module):
    """Two attentions from the grid to the text, no feed-forward (diffusers' `SkipFFTransformerBlock`)."""

    def __init__(self, config: UVitConfig, layers: Layers, **kw: Any) -> None:
        super().__init__()
        dim, text_dim, heads = config.block_out_channels, config.hidden_size, config.block_num_heads
        bias, dropout = config.use_bias, config.attention_dropout
        self.kv_mapper = layers.Linear(text_dim, dim, bias=bias, **kw) if text_dim != dim else None
        self.norm1 = layers.RMSNorm(dim, 1e-6, **kw)
        self.attn1 = Attention(dim, heads, "attn1", bias, dropout, layers, **kw)
        self.norm2 = layers.RMSNorm(dim, 1e-6, **kw)
        self.attn2 = Attention(dim, heads, "attn2", bias, dropout, layers, **kw)

    def project_kv(self, text: Tensor) -> tuple[KeysValues, KeysValues]:
        """`text` [B,L,H] -> what the two attentions see."""
        if self.kv_mapper is not None:
            text = self.kv_mapper(F.silu(text))
        return self.attn1.project_kv(text), self.attn2.project_kv(text)

    def forward(self, x: Tensor, given: PairCondition, attend: Attend, options: dict[str, Any]) -> Tensor:
        """`x` [B,N,C] -> [B,N,C]."""
        x = x + self.attn1(self.norm1(x), given.text1, attend, options)
        return x + self.attn2(self.norm2(x), given.text2, attend, options)


class Resample(nn.Module):
    """Norm and a 2x2 convolution of stride 2, down or up."""

    def __init__(self, config: UVitConfig, conv: type[nn.Module], layers: Layers, **kw: Any) -> None:
        super().__init__()
        dim = config.block_out_channels
        self.norm = layers.RMSNorm(dim, config.layer_norm_eps, config.ln_elementwise_affine, **kw)
        self.conv = conv(dim, dim, kernel_size=2, stride=2, bias=config.use_bias, **kw)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B,C,h,w] -> half or twice the grid."""
        return self.conv(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class UVitBlock(nn.Module):
    """Optional downsampling, pairs of `ConvNextBlock` and `TextBlock`, optional upsampling."""

    def __init__(self, config: UVitConfig, layers: Layers, down: bool = False, up: bool = False, **kw: Any) -> None:
        super().__init__()
        count = range(config.num_res_blocks)
        self.downsample = Resample(config, layers.Conv2d, layers, **kw) if down else None
        self.res_blocks = nn.ModuleList([ConvNextBlock(config, layers, **kw) for _ in count])
        self.attention_blocks = nn.ModuleList([TextBlock(config, layers, **kw) for _ in count])
        self.upsample = Resample(config, layers.ConvTranspose2d, layers, **kw) if up else None

    def condition(self, text: Tensor, cond: Tensor) -> tuple[PairCondition, ...]:
        """`text` [B,L,H], `cond` [B,H] after SiLU -> all that the pairs take from them."""
        pairs = zip(self.res_blocks, self.attention_blocks, strict=True)
        return tuple(PairCondition(res.modulation(cond), *attention.project_kv(text)) for res, attention in pairs)

    def forward(self, x: Tensor, given: tuple[PairCondition, ...], attend: Attend, options: dict[str, Any]) -> Tensor:
        """`x` [B,C,h,w] -> [B,C,h',w']."""
        if self.downsample is not None:
            # An odd grid gets one row or column of zeros; `UVit` crops what comes of it.
            x = self.downsample(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)))
        grid = x.shape[-2:]
        for res_block, attention_block, pair in zip(self.res_blocks, self.attention_blocks, given, strict=True):
            x = res_block(x, pair.scale, options.get(REPEATS)).flatten(2).transpose(1, 2)
            x = attention_block(x, pair, attend, options).transpose(1, 2).unflatten(2, grid)
        return x if self.upsample is None else self.upsample(x)


class LogitsHead(nn.Module):
    """Channels to one logit per code (diffusers' `ConvMlmLayer`)."""

    def __init__(self, config: UVitConfig, layers: Layers, **kw: Any) -> None:
        super().__init__()
        dim, bias = config.in_channels, config.use_bias
        self.conv1 = layers.Conv2d(config.block_out_channels, dim, kernel_size=1, bias=bias, **kw)
        self.layer_norm = layers.RMSNorm(dim, config.layer_norm_eps, config.ln_elementwise_affine, **kw)
        self.conv2 = layers.Conv2d(dim, config.codebook_size, kernel_size=1, bias=bias, **kw)

    def features(self, x: Tensor) -> Tensor:
        """`x` [B,C,h,w] -> what the logits are linear in, [B,h,w,in_channels]."""
        return self.layer_norm(self.conv1(x).permute(0, 2, 3, 1))

    def logits(self, features: Tensor) -> Tensor:
        """`features` [B,h,w,in_channels] -> logits [B,K,h,w]."""
        return self.conv2(features.permute(0, 3, 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B,C,h,w] -> logits [B,K,h,w]."""
        return self.logits(self.features(x))
