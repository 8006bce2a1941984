"""A grid of one token repeated, such as the wholly masked one, computed from a few of its cells.

Only the 3x3 convolutions of the down block tell such cells apart, by the zeros around the grid: after n of them, all
cells that are n or more away from every border are equal. So 2n+1 rows and columns are enough up to the end of the
trunk; the middle ones stand for all between. The features differ in rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Where the options of a pass hold its `Repeats`.
REPEATS = "amused_repeats"


@dataclass(frozen=True)
class Repeats:
    """Which cells of a grid are computed.

    Attributes:
        sides: height and width of the computed grid, in cells.
        equal: int64 [h*w], for each cell of the grid the computed one that it is equal to.
        first: int64 [n], for each computed cell one of the grid.
    """

    sides: tuple[int, int]
    equal: Tensor
    first: Tensor

    def spread(self, cells: Tensor) -> Tensor:
        """`cells` [B,n,C], those computed -> all [B,h*w,C]."""
        return cells[:, self.equal]

    def pick(self, cells: Tensor) -> Tensor:
        """`cells` [B,h*w,C] -> those computed [B,n,C]."""
        return cells[:, self.first]


def find_repeats(height: int, width: int, convolutions: int, device: torch.device | None = None) -> Repeats | None:
    """The repeats of a grid of `height` x `width` equal cells after some 3x3 convolutions; None: all cells differ."""
    sides = tuple(min(side, 2 * convolutions + 1) for side in (height, width))
    if sides == (height, width):
        return None
    rows, columns = (_line(side, convolutions, device) for side in (height, width))
    equal = (rows[:, None] * sides[1] + columns).flatten()
    first = torch.empty(sides[0] * sides[1], dtype=torch.int64, device=device)
    first[equal] = torch.arange(height * width, device=device)
    return Repeats(sides, equal, first)


def _line(side: int, border: int, device: torch.device | None) -> Tensor:
    """For each place in a line the computed one: `border` places at both ends, and one for all between."""
    places, left_out = torch.arange(side, device=device), max(0, side - 2 * border - 1)
    return places.clamp(max=border) + (places - border - left_out).clamp(min=0)
