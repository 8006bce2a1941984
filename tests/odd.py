"""Values of any type, of which hardly one is what an argument wants."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


class NoRepr:
    """Says nothing of itself, not even what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Rude:
    """Neither true nor false, and equal to nothing."""

    def __bool__(self) -> bool:
        raise RuntimeError("neither")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


ODD: dict[str, Any] = {
    "array of two": np.array([1, 2]),
    "array of truths": np.array([True, False]),
    "array without dimensions": np.array(1),
    "array of texts": np.array(["a", "b"]),
    "empty array": np.zeros((0,)),
    "tensor of two": torch.ones(2),
    "tensor of one": torch.tensor(1),
    "meta tensor": torch.ones(1, 32, 32, 3, device="meta"),
    "sparse tensor": torch.eye(32).to_sparse(),
    "quantized tensor": torch.quantize_per_tensor(torch.ones(32, 32, 3), 1.0, 0, torch.quint8),
    "complex tensor": torch.ones(32, 32, 3, dtype=torch.complex64),
    "nested tensor": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "huge number": 10**5000,
    "huge negative number": -(10**5000),
    "list of a huge number": [10**5000],
    "huge range": range(10**12),
    "long list": ["a"] * 5000,
    "ragged list": [[1, 2], [3]],
    "span of time": np.timedelta64(1, "s"),
    "NaN": float("nan"),
    "infinite": np.float32("inf"),
    "complex": 1j,
    "decimal": Decimal(1),
    "fraction": Fraction(1, 2),
    "bytes": b"a cat",
    "long text": "x" * 10_000,
    "lines": "a\nb",
    "NUL": "a\0b",
    "surrogate": "\ud800",
    "empty text": "",
    "None": None,
    "dict": {"a": 1},
    "set": {1, 2},
    "class": int,
    "function": len,
    "object": object(),
    "no repr": NoRepr(),
    "rude": Rude(),
    "list of rude": [Rude()],
    "La": Image.new("La", (32, 32)),
    "PIL without pixels": Image.new("RGB", (0, 0)),
    "path": Path("a"),
}
