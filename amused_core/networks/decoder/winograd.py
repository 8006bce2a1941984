"""3x3 convolutions by Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016, sec. 4): a quarter of the products.

A tile of 6x6 inputs is spread into 36 numbers a channel; each is multiplied by a matrix of its own (the weights,
transformed once), and 4x4 outputs are gathered from the products. Spreading and gathering work on one dimension after
the other. A picture goes through a few rows at a time, so that most of what is made of them never leaves the caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import linear, packed

# Numbers of a transformed input that each thread works on at a time, tiles times channels: the fewer, the more often
# threads wait for each other; the more, the less stays in their caches. Each comes with about 400 bytes of others.
CHUNK, MOST_THREADS = 131072, 4


class Affine(NamedTuple):
    """What a norm does to a channel once its statistics are known: `x * gain + shift`, each [C]."""

    gain: Tensor
    shift: Tensor


class WinogradConv(nn.Module):
    """A 3x3 `Conv2d` of stride 1 and padding 1, in fp32 on a CPU; rounding errors are some 4e-5 of the result."""

    STEP = 4  # Inputs from one tile to the next; a tile sees two more.
    SOURCES = (0, 1, 2, 3, 4, 5)  # Which spread number each product takes.
    WEIGHT = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
              [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]  # fmt: skip

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.outputs, inputs = conv.weight.shape[:2]
        matrices = transformed(conv.weight.detach(), self.WEIGHT)
        # As built: more threads than cores, on a busy machine, share the same caches.
        self.at_once = CHUNK * min(torch.get_num_threads(), MOST_THREADS)
        self.weights = [packed(matrix, self.at_once // inputs) for matrix in matrices]
        self.bias = conv.bias

    def shape(self, x: Tensor) -> tuple[int, int, int]:
        """That of the output for an input [H,W,C]."""
        scale = 4 // self.STEP
        return scale * x.shape[0], scale * x.shape[1], self.outputs

    @torch.no_grad()
    def forward(self, x: Tensor, out: Tensor, norm: Affine | None = None, add: bool = False) -> Tensor:
        """The convolution of a picture, or of `silu(norm(x))`, written into `out`, or added to it.

        `x` fp32 [H,W,C]; `out` contiguous, of `shape(x)`, and no part of `x`.
        """
        height, width, channels = x.shape
        step = self.STEP
        down, across = -(-height // step), -(-width // step)
        count = min(down, max(1, self.at_once // (channels * across)))
        # Columns lie by their place in a tile first, so that those of equal place are neighbours.
        padded = x.new_zeros(count * step + 2, step, across + 1, channels)
        made = x.new_empty(count, 4, across, 4, self.outputs)
        for first in range(0, down, count):
            count = min(count, down - first)
            self._fill(padded[: count * step + 2], x, first * step - 1, norm)
            self._convolve(padded[: count * step + 2], made[:count])
            target = out[4 * first : 4 * (first + count)]
            rows = made[:count].flatten(2, 3).flatten(0, 1)[: len(target), : target.shape[1]]
            target.add_(rows) if add else target.copy_(rows)
        return out

    def _fill(self, padded: Tensor, x: Tensor, top: int, norm: Affine | None) -> None:
        """Rows of `x` from `top` on, one column from the left, into `padded` [rows,STEP,across+1,C]; zeros around."""
        first, end = max(top, 0), min(top + len(padded), len(x))
        padded[: first - top].zero_()
        padded[end - top :].zero_()
        inner = padded[first - top : end - top]
        for place in range(self.STEP):
            source = x[first:end, (place - 1) % self.STEP :: self.STEP]
            target = inner[:, place, int(place == 0) :][:, : source.shape[1]]
            target.copy_(source) if norm is None else torch.addcmul(norm.shift, source, norm.gain, out=target)
        if norm is not None:
            F.silu(inner, inplace=True)

    def _convolve(self, padded: Tensor, made: Tensor) -> None:
        """`padded` [rows,STEP,across+1,C] -> `made` [down,4,across,4,K]."""
        (down, _, across, _, _), step, sources = made.shape, self.STEP, self.SOURCES
        size = max(sources) + 1
        by_row = padded.new_empty(size, down, *padded.shape[1:])
        self.spread([padded[i : i + step * (down - 1) + 1 : step] for i in range(step + 2)], by_row.unbind(0))
        columns = [by_row[:, :, j % step, j // step : j // step + across] for j in range(step + 2)]
        weights, gathered = iter(self.weights), []
        for i, source in enumerate(sources):
            if i == 0 or source != sources[i - 1]:
                spread = padded.new_empty(size, down, across, padded.shape[-1])
                self.spread([column[source] for column in columns], spread.unbind(0))
            # What the product of the places (1, 1) holds is in all of the outputs.
            biases = [self.bias if i == j == 1 else None for j in range(len(sources))]
            products = [linear(spread[j], next(weights), bias) for j, bias in zip(sources, biases, strict=True)]
            gathered.append(self.gather(products))
        for column, parts in enumerate(zip(*gathered, strict=True)):
            self.gather(parts, [made[:, row, :, column] for row in range(4)])

    @staticmethod
    def spread(x: Sequence[Tensor], out: Sequence[Tensor]) -> None:
        """Six neighbours to the six numbers of `SOURCES`; all of one shape."""
        low, odd, high, last = x[2] - x[0], x[3] - x[1], x[4] - x[2], x[5] - x[3]
        even, uneven = torch.sub(x[4], x[2], alpha=4), torch.sub(x[3], x[1], alpha=4)
        torch.sub(high, low, alpha=4, out=out[0])
        torch.add(even, uneven, out=out[1])
        torch.sub(even, uneven, out=out[2])
        torch.add(high, odd, alpha=2, out=out[3])
        torch.sub(high, odd, alpha=2, out=out[4])
        torch.sub(last, odd, alpha=4, out=out[5])

    @staticmethod
    def gather(m: Sequence[Tensor], out: Sequence[Tensor | None] = (None,) * 4) -> list[Tensor]:
        """Six products to four neighbours, in `out` where that is given."""
        near, far = m[1] + m[2], m[3] + m[4]
        odd, odd_far = m[1] - m[2], m[3] - m[4]
        second, third = torch.add(odd, odd_far, alpha=2, out=out[1]), torch.add(near, far, alpha=4, out=out[2])
        first = torch.add(near.add_(far), m[0], out=out[0])
        return [first, second, third, torch.add(odd.add_(odd_far, alpha=8), m[5], out=out[3])]


class WinogradUpsample(WinogradConv):
    """Nearest-neighbour upsampling by 2 and a 3x3 convolution.

    With w the weights of a row and s = w0 + w1 + w2, inputs a b c d become the outputs
    a w0 + b (w1 + w2), b (w0 + w1) + c w2, b w0 + c (w1 + w2), c (w0 + w1) + d w2, which share
    m = (b + c) s/2: they are m + (a - c) w0 - p, m + q, m + p, m + (d - b) w2 - q with p = (c - b) (s/2 - w0) and
    q = (c - b) (w2 - s/2). So 25 products for 4x4 outputs instead of 36, from half of the inputs.
    """

    STEP = 2
    SOURCES = (0, 1, 2, 2, 3)
    WEIGHT = [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [-1 / 2, 1 / 2, 1 / 2], [-1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]

    @staticmethod
    def spread(x: Sequence[Tensor], out: Sequence[Tensor]) -> None:
        """Four neighbours to the four numbers of `SOURCES`."""
        torch.sub(x[0], x[2], out=out[0])
        torch.add(x[1], x[2], out=out[1])
        torch.sub(x[2], x[1], out=out[2])
        torch.sub(x[3], x[1], out=out[3])

    @staticmethod
    def gather(m: Sequence[Tensor], out: Sequence[Tensor | None] = (None,) * 4) -> list[Tensor]:
        """Five products to four neighbours."""
        first, last = torch.sub(m[1], m[2]), torch.sub(m[1], m[3])
        second, third = torch.add(m[1], m[3], out=out[1]), torch.add(m[1], m[2], out=out[2])
        return [torch.add(first, m[0], out=out[0]), second, third, torch.add(last, m[4], out=out[3])]


def transformed(weight: Tensor, matrix: list[list[float]]) -> list[Tensor]:
    """Weights fp32 [K,C,3,3] -> a matrix fp32 [K,C] for each product, worked out in double precision."""
    rows = torch.tensor(matrix, dtype=torch.float64)
    spread = torch.einsum("ia,jb,kcab->ijkc", rows, rows, weight.double())
    return [spread[i, j].float() for i, j in product(range(len(rows)), repeat=2)]


def winograd_bytes(conv: nn.Conv2d, kind: type[WinogradConv]) -> int:
    """What the transformed fp32 weights of a convolution take."""
    return len(kind.SOURCES) ** 2 * 4 * conv.in_channels * conv.out_channels
