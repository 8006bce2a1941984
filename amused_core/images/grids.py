"""Contact sheets: many pictures in one file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..files.writing import beside


def make_grid(pictures: Tensor, columns: int, gap: int = 2) -> Tensor:
    """Lays float pictures `[B, 3, H, W]` (0..1) out in rows of `columns`: float `[3, H', W']`, grey between them."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    sheet = torch.full((3, rows * (height + gap) - gap, columns * (width + gap) - gap), 0.5)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = picture
    return sheet


def save_grid(pictures: Tensor, path: str | Path, columns: int = 8) -> None:
    """Writes float pictures `[B, 3, H, W]` (0..1, clipped) as one PNG of rows of `columns`."""
    from PIL import Image

    sheet = make_grid(pictures.detach().float().cpu(), columns).clamp(0, 1)
    with beside(Path(path)) as partial:
        Image.fromarray((sheet * 255).round().byte().permute(1, 2, 0).numpy()).save(partial, "PNG")
