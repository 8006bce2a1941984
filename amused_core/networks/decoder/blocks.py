"""The parts of the faster decoder; pictures are [1,C,H,W] channels last between them, and [H,W,C] within."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..kernels import linear
from .spare import Spare
from .winograd import CHUNK, Affine, WinogradConv, WinogradUpsample


class Upsample(nn.Module):
    """diffusers' `Upsample2D` with its convolution; uses up its input."""

    def __init__(self, block: nn.Module, spare: Spare) -> None:
        super().__init__()
        self.conv, self.spare = WinogradUpsample(block.conv), spare

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        """[1,C,h,w] -> [1,K,2h,2w], channels last."""
        picture = _picture(x)
        larger = self.conv(picture, self.spare.take(self.conv.shape(picture)))
        self.spare.give(picture)
        return _planes(larger)


class Resnet(nn.Module):
    """diffusers' `ResnetBlock2D` without a time embedding; uses up its input."""

    def __init__(self, block: nn.Module, spare: Spare) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, WinogradConv(block.conv1)
        self.norm2, self.conv2 = block.norm2, WinogradConv(block.conv2)
        self.shortcut, self.spare = block.conv_shortcut, spare

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """[1,C,h,w] -> [1,K,h,w], channels last."""
        picture = _picture(x)
        inner = self.conv1(picture, self.spare.take(self.conv1.shape(picture)), _affine(self.norm1, picture))
        out = picture if self.shortcut is None else self._pointwise(picture)
        self.conv2(inner, out, _affine(self.norm2, inner), add=True)
        self.spare.give(inner)
        return _planes(out)

    def _pointwise(self, picture: Tensor) -> Tensor:
        out = self.spare.take(self.conv1.shape(picture))
        # A few rows at a time need no memory to speak of.
        for rows, target in zip(picture.split(8), out.split(8), strict=True):
            target.copy_(linear(rows, self.shortcut.weight.detach().flatten(1), self.shortcut.bias))
        self.spare.give(picture)
        return out


class Norm(nn.Module):
    """A `GroupNorm` whose result does not depend on the number of threads."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """[1,C,h,w], channels last or not."""
        gain, shift = (value[:, None, None] for value in _affine(self.norm, _picture(x)))
        return torch.addcmul(shift, x, gain)


class Ending(nn.Module):
    """The decoder's last three: norm, activation and convolution; uses up its input."""

    def __init__(self, norm: nn.GroupNorm, conv: nn.Conv2d, spare: Spare) -> None:
        super().__init__()
        self.norm, self.conv, self.spare = norm, WinogradConv(conv), spare

    def forward(self, x: Tensor) -> Tensor:
        """[1,C,h,w] -> [1,K,h,w], channels last."""
        picture = _picture(x)
        out = self.conv(picture, x.new_empty(self.conv.shape(picture)), _affine(self.norm, picture))
        self.spare.give(picture)
        return _planes(out)


def _picture(x: Tensor) -> Tensor:
    """[1,C,H,W] channels last -> [H,W,C]."""
    return x[0].permute(1, 2, 0)


def _planes(picture: Tensor) -> Tensor:
    """[H,W,C] -> [1,C,H,W] channels last."""
    return picture.permute(2, 0, 1)[None]


def _affine(norm: nn.GroupNorm, picture: Tensor) -> Affine:
    """What `norm` comes to for a picture [H,W,C]; worked out in double precision from the sums of image rows.

    Unlike in torch's own norms, the order of summation does not depend on the number of threads.
    """
    pieces = picture.split(max(1, CHUNK // picture[0].numel()))
    sums = torch.cat([rows.sum(1) for rows in pieces]).double().sum(0)
    squares = torch.cat([rows.square().sum(1) for rows in pieces]).double().sum(0)
    count = picture.numel() / norm.num_groups
    mean, square = (value.view(norm.num_groups, -1).sum(1, keepdim=True) / count for value in (sums, squares))
    variance = (square - mean.square()).clamp(min=0)
    gain = norm.weight.double().view(norm.num_groups, -1) * (variance + norm.eps).rsqrt()
    shift = norm.bias.double().view_as(gain) - mean * gain
    return Affine(gain.flatten().float(), shift.flatten().float())
