"""The masked-token objective: which tokens are hidden, and the loss on them. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...sampling.training_masks import mask_ratio, random_mask

ALL_SHARE, BLOCK_SHARE = 0.1, 0.15
PAIR_ALL_SHARE = 0.45  # of pictures with two things: only a whole mask asks for what the text says is where


def block_mask(height: int, width: int, generator: Generator) -> Tensor:
    """Bool `[height, width]` with one rectangle masked, each side at least a quarter of the grid: inpainting."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    spans = []
    for length in (height, width):
        size = int(torch.randint(max(1, length // 4), length + 1, (), generator=generator))
        start = int(torch.randint(length - size + 1, (), generator=generator))
        spans.append(slice(start, start + size))
    mask[spans[0], spans[1]] = True
    return mask


def sample_masks(whole: Sequence[float], height: int, width: int, generator: Generator) -> Tensor:
    """Bool `[B, height, width]`: picture i wholly masked with probability `whole[i]` (every drawing starts so), 15 %
    blocks, the rest random."""
    masks = []
    for share, (choice, time) in zip(whole, torch.rand((len(whole), 2), generator=generator).tolist(), strict=True):
        if choice < share:
            masks.append(torch.ones(height, width, dtype=torch.bool))
        elif choice < share + BLOCK_SHARE:
            masks.append(block_mask(height, width, generator))
        else:
            masks.append(random_mask(height, width, float(mask_ratio(torch.tensor(time))), generator))
    return torch.stack(masks)


def code_weights(tokens: Tensor, codes: int, limit: float = 10.0) -> Tensor:
    """Loss weight of every code, float `[codes]`: one, but less for a code over `limit` times as frequent as the mean.

    Nearly half of all tokens are flat background; at full weight they drown everything else at the start.
    """
    counts = torch.bincount(tokens.flatten(), minlength=codes).float()
    return (limit * counts.mean() / counts.clamp_min(1)).clamp_max(1)


def masked_loss(
    logits: Tensor, tokens: Tensor, mask: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, float]:
    """Cross entropy over the masked cells only: logits `[B, K, h, w]`, tokens int64 `[B, h, w]`, mask bool.

    Returns the mean over all masked cells, weighted by the right token where `weights` `[K]` is given; the plain mean
    of every picture `[B]` without gradient; and the share of masked cells whose likeliest token is the right one.
    """
    chosen, right = logits.permute(0, 2, 3, 1)[mask].float(), tokens[mask]
    losses = F.cross_entropy(chosen, right, reduction="none")
    weight = torch.ones_like(losses) if weights is None else weights[right]
    owner = mask.flatten(1).sum(1)
    each = losses.detach().split(owner.tolist())
    accuracy = float((chosen.argmax(1) == right).float().mean())
    return (losses * weight).sum() / weight.sum(), torch.stack([part.mean() for part in each]), accuracy
