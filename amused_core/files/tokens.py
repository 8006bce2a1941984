"""Token grids as NumPy files: int64 [B,h,w], ids from 0; -1 is a cell that is not decided yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import AmusedError, one_line
from .writing import beside

UNDECIDED = -1
FORMAT = "it must hold whole numbers in the shape [batch, height, width]"


def save_tokens(tokens: Tensor, path: Path, overwrite: bool = True) -> Path:
    """Writes tokens int64 [B,h,w]; cells that are not decided hold -1. Raises as `beside` does."""
    with beside(path, overwrite) as partial, partial.open("wb") as file:
        np.save(file, tokens.cpu().numpy().astype(np.int64))
    return path


def read_tokens(path: Path, codebook_size: int) -> Tensor:
    """Tokens int64 [B,h,w] of a file; ids 0 to `codebook_size - 1`, and -1 where a cell is not decided.

    Raises:
        AmusedError: no such file, no NumPy file, another shape or dtype, or ids out of range.
    """
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise AmusedError(f"No token file at {str(path)!r}.") from None
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:  # as its header is damaged
        raise AmusedError(f"{str(path)!r} cannot be read as a NumPy file: {one_line(error)}.") from error
    if array.ndim != 3 or array.dtype.kind not in "iu" or 0 in array.shape:
        raise AmusedError(f"{str(path)!r} holds {array.dtype} in the shape {list(array.shape)}; {FORMAT}.")
    low, high = int(array.min()), int(array.max())
    if low < UNDECIDED or high >= codebook_size:
        raise AmusedError(
            f"{str(path)!r} holds ids from {low} to {high}; allowed are 0 to {codebook_size - 1}, and {UNDECIDED} for "
            "a cell that is not decided."
        )
    return torch.from_numpy(array.astype(np.int64))
