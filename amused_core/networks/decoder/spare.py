"""Memory of activations that is used again."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor


class Spare(threading.local):
    """Memory of activations that are done with: large ones come from the system a page at a time, which is slow.

    Each thread has its own: two may draw with one model.
    """

    def __init__(self) -> None:
        self._free: list[Tensor] = []

    def take(self, shape: Sequence[int]) -> Tensor:
        """An uninitialised fp32 tensor, in spare memory where there is enough of it in one piece."""
        size = math.prod(shape)
        place = next((i for i, flat in enumerate(self._free) if len(flat) >= size), None)
        flat = torch.empty(size, dtype=torch.float32) if place is None else self._free.pop(place)
        return flat[:size].view(shape)

    def give(self, x: Tensor) -> None:
        """Takes the memory of a tensor that nobody will look at again."""
        self._free.append(x.as_strided((x.untyped_storage().nbytes() // x.itemsize,), (1,), 0))

    def clear(self) -> None:
        """Gives all of it back."""
        self._free.clear()
