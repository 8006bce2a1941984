"""The layer classes the U-ViT is built from, so that a host can put its own in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kernels import linear


class Linear(nn.Linear):
    """`torch.nn.Linear` with the product that is the fastest here; see `kernels.linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., in_features] -> [..., out_features]."""
        return linear(x, self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`; one of 1x1 on a CPU is the matrix product that it is."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B,C,h,w] -> [B,K,h',w']."""
        shape = self.kernel_size, self.stride, self.padding, self.groups
        if shape != ((1, 1), (1, 1), (0, 0), 1) or x.device.type != "cpu":
            return super().forward(x)
        return linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension, computed in fp32 (Zhang & Sennrich 2019; diffusers' `RMSNorm`)."""

    def __init__(
        self,
        dim: int,
        eps: float,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim, device=device, dtype=dtype)) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., dim] -> the same shape and dtype."""
        return rms_norm(x, self.weight, self.eps)


class GlobalResponseNorm(nn.Module):
    """Channel competition over the whole grid (ConvNeXt V2, Woo et al. 2023; diffusers' `GlobalResponseNorm`)."""

    def __init__(self, dim: int, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, dim, device=device, dtype=dtype))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, dim, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B,h,w,dim] -> the same shape."""
        return global_response_norm(x, self.gamma, self.beta)


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Scales `x` to unit root mean square over its last dimension; the statistics are fp32 whatever the dtype."""
    normed = F.rms_norm(x.float(), x.shape[-1:], None if weight is None else weight.float(), eps)
    return normed.to(x.dtype)


def global_response_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Weighs each channel by its share of the grid's L2 norm. `x` [B,h,w,C], `gamma`/`beta` [1,1,1,C]."""
    if x.dtype is torch.float32 and not x.requires_grad:
        # torch's own norm over two dimensions takes ten times as long on a CPU. Halves could overflow here, and a
        # channel of zeros would have no gradient.
        norm = x.square().sum(dim=(1, 2), keepdim=True).sqrt()
    else:
        norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    share = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)
    return gamma * (x * share) + beta + x


@dataclass(frozen=True)
class Layers:
    """Layer classes taken by `UVit`; each is called like its torch namesake, with `device` and `dtype` keywords."""

    Linear: type[nn.Module] = Linear
    Conv2d: type[nn.Module] = Conv2d
    ConvTranspose2d: type[nn.Module] = nn.ConvTranspose2d
    Embedding: type[nn.Module] = nn.Embedding
    LayerNorm: type[nn.Module] = nn.LayerNorm
    RMSNorm: type[nn.Module] = RMSNorm
    GlobalResponseNorm: type[nn.Module] = GlobalResponseNorm


TORCH_LAYERS = Layers()
