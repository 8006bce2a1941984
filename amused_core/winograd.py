"""3x3 convolutions by Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016): a quarter of the products."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Their sec. 4: a tile of 6x6 inputs and the 3x3 weights are transformed, multiplied, and become 4x4 outputs.
_INPUT = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
          [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]  # fmt: skip
_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
_WEIGHT = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
_WEIGHT_SCALE = 1 / 24

POINTS = 36
# Transformed inputs that are worked on at a time: about what a core's cache holds.
CHUNK_BYTES = 4_000_000
FEWEST_TILES = 64


def winograd_bytes(conv: nn.Conv2d) -> int:
    """What the transformed fp32 weights of a convolution take."""
    return POINTS * 4 * conv.in_channels * conv.out_channels


class WinogradConv(nn.Module):
    """A 3x3 `Conv2d` of stride 1 and padding 1, in fp32 on a CPU; rounding errors are some 4e-5 of the result."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.bias = conv.bias
        self.weight = transformed(conv.weight.detach())
        self.into = _both_sides(_INPUT)
        self.out_of = _both_sides(_OUTPUT)

    def forward(self, x: Tensor) -> Tensor:
        """fp32 [B,C,H,W] -> [B,K,H,W], channels last."""
        (batch, channels, height, width), outputs = x.shape, self.weight.shape[-1]
        down, across = -(-height // 4), -(-width // 4)
        padded = _framed(x.permute(0, 2, 3, 1), 4 * down + 2, 4 * across + 2)
        out = torch.empty(batch, 4 * down, 4 * across, outputs)
        rows = max(1, max(CHUNK_BYTES // (POINTS * 4 * channels), FEWEST_TILES) // across)
        for picture, target in zip(padded, out, strict=True):
            for first in range(0, down, rows):
                count = min(rows, down - first)
                part = slice(4 * first, 4 * (first + count))
                tiles = picture[part.start : part.stop + 2].unfold(0, 6, 4).unfold(1, 6, 4)
                spread = self.into @ tiles.permute(3, 4, 0, 1, 2).reshape(POINTS, -1)
                product = torch.bmm(spread.view(POINTS, -1, channels), self.weight)
                made = (self.out_of @ product.view(POINTS, -1)).view(4, 4, count, across, outputs)
                target[part].view(count, 4, across, 4, outputs).copy_(made.permute(2, 0, 3, 1, 4))
        if self.bias is not None:
            out += self.bias
        return out[:, :height, :width].permute(0, 3, 1, 2)


def _framed(x: Tensor, height: int, width: int) -> Tensor:
    """`x` [B,H,W,C] one cell from the top left corner of zeros; `F.pad` would write every value twice."""
    framed = x.new_empty(len(x), height, width, x.shape[-1])
    framed[:, 1 : 1 + x.shape[1], 1 : 1 + x.shape[2]] = x
    for border in (framed[:, :1], framed[:, 1 + x.shape[1] :], framed[:, :, :1], framed[:, :, 1 + x.shape[2] :]):
        border.zero_()
    return framed


def transformed(weight: Tensor) -> Tensor:
    """Weights fp32 [K,C,3,3] -> fp32 [36,C,K], worked out in double precision."""
    matrix = _both_sides(_WEIGHT).double() * _WEIGHT_SCALE**2
    out, channels = weight.shape[:2]
    return (matrix @ weight.double().permute(2, 3, 1, 0).reshape(9, -1)).float().view(POINTS, channels, out)


def _both_sides(matrix: list[list[int]]) -> Tensor:
    """The matrix that does `matrix @ x @ matrix.T` to a flattened x, fp32."""
    one = torch.tensor(matrix, dtype=torch.float32)
    return torch.kron(one, one)
