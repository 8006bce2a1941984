"""A drawn picture on its way to storage."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..images.files import encode_picture
from .backend import Drawn
from .pictures import Picture


@dataclass(frozen=True)
class Drawing:
    """A picture, its tokens, and what made them.

    Attributes:
        number, file: as in `Picture`.
        about: id, settings, and the row's other columns.
        picture: content of a picture file, or None.
        ending: of that file.
        tokens: uint16 [1,h,w], or uint32 for codebooks beyond 65536; None: not asked for.
        sidecar: a further file (name, text), or None.
    """

    number: int
    file: str
    about: dict[str, Any]
    picture: bytes | None
    ending: str = ".png"
    tokens: np.ndarray | None = None
    sidecar: tuple[str, str] | None = None


def drawings(
    pictures: Sequence[Picture], drawn: Drawn, images: Tensor | None, ending: str, tokens: bool
) -> Iterator[Drawing]:
    """The pictures of a batch, encoded one at a time; `images` None: tokens only."""
    for index, (picture, settings) in enumerate(zip(pictures, drawn.settings, strict=True)):
        about = {"id": picture.id, **settings, **picture.columns}
        yield Drawing(
            picture.number,
            picture.file,
            about,
            None if images is None else encode_picture(images[index], about, ending),
            ending,
            compact(drawn.tokens[index : index + 1]) if tokens else None,
            picture.sidecar,
        )


def compact(tokens: Tensor) -> np.ndarray:
    """Tokens as the smallest whole numbers that a codebook of 65536 codes needs."""
    array = tokens.cpu().numpy()
    return array.astype(np.uint16 if array.max(initial=0) < 2**16 else np.uint32)


def npy(tokens: np.ndarray) -> bytes:
    """Tokens as the content of a NumPy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, tokens, allow_pickle=False)
    return file.getvalue()
