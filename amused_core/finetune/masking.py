"""Which tokens of an example are hidden, and the loss on them. Pure functions; the ratios are MaskGIT's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..sampling.training_masks import mask_ratio, random_mask


def region_mask(height: int, width: int, ratio: float, generator: Generator) -> Tensor:
    """Bool `[height, width]` with one rectangle of `ratio` of the cells (or the next larger one) masked, anywhere.

    Its height is any that fits; this is how aMUSEd itself was trained for inpainting (open-muse).
    """
    count = max(1, round(ratio * height * width))
    rows = int(torch.randint(math.ceil(count / width), min(height, count) + 1, (), generator=generator))
    columns = math.ceil(count / rows)
    top = int(torch.randint(height - rows + 1, (), generator=generator))
    left = int(torch.randint(width - columns + 1, (), generator=generator))
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top : top + rows, left : left + columns] = True
    return mask


def sample_masks(count: int, height: int, width: int, regions: float, generator: Generator) -> Tensor:
    """Bool `[count, height, width]`: ratios by the cosine schedule, a share `regions` of the masks in one piece."""
    masks = []
    for choice, time in torch.rand((count, 2), generator=generator).tolist():
        make = region_mask if choice < regions else random_mask
        masks.append(make(height, width, float(mask_ratio(torch.tensor(time))), generator))
    return torch.stack(masks)


def masked_cross_entropy(logits: Tensor, tokens: Tensor, mask: Tensor, smoothing: float) -> Tensor:
    """Mean cross entropy of the masked cells: logits `[B, K, h, w]`, tokens int64 and mask bool `[B, h, w]`."""
    chosen = logits.permute(0, 2, 3, 1)[mask].float()
    return F.cross_entropy(chosen, tokens[mask], label_smoothing=smoothing)
