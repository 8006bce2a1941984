"""Pictures for ComfyUI's own preview while sampling, as its setting says: none, cheap, or decoded.

"latent2rgb" and "auto" show each cell in its code's mean colour: a linear map. "taesd" asks for real pictures, for
which other models need a second network; here the VQ-GAN decodes them. Cells not decided yet are veiled in both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ....amused_core.insight.cells import VEIL, paint_undecided
from ....amused_core.networks.vq import VQ

# Decoding every code of a large codebook takes minutes on a CPU; a linear fit on as many codes as this takes seconds.
MAX_DECODED = 1024
# The value of a guessed cell in the one-hot grids that a preview is made of; a decided cell's is 1.
GUESSED = 0.5
# Longer side of a decoded preview in pixels.
MAX_SIDE = 256


@torch.no_grad()
def code_colors(vq: VQ) -> Tensor:
    """Mean colour of each code decoded by itself, float32 [K,3] in 0..1, on the CPU.

    Of a codebook larger than `MAX_DECODED` only so many codes are decoded, evenly spread; the others' colours come from
    a least-squares fit over the code vectors.
    """
    count = min(vq.codebook_size, MAX_DECODED)
    chosen = torch.linspace(0, vq.codebook_size - 1, count).round().long()
    colors = vq.decode(chosen[:, None, None]).mean(dim=(1, 2)).cpu()
    if count == vq.codebook_size:
        return colors
    vectors = vq.module.quantize.embedding.weight.float().cpu()
    vectors = torch.cat([vectors, torch.ones(len(vectors), 1)], dim=1)
    fit = torch.linalg.lstsq(vectors[chosen], colors).solution
    return (vectors @ fit).clamp(0, 1)


def weight_guesses(one_hot: Tensor, decided: Tensor) -> Tensor:
    """One-hot [B,K,h,w] of a guess, changed in place: cells that are not `decided` (bool [B,h,w]) count half.

    So a linear map shows them halfway to grey, and they are still told from cells without any guess.
    """
    return one_hot.mul_(torch.where(decided, 1.0, GUESSED)[:, None])


@torch.no_grad()
def decoded(one_hot: Tensor, vq: VQ) -> Tensor:
    """The first grid of `weight_guesses` as float [1,3,H,W] in -1..1, its longer side at most `MAX_SIDE`."""
    value, tokens = one_hot[:1].max(dim=1)
    pictures = paint_undecided(vq.decode(tokens), value <= 0)
    pictures = paint_undecided(pictures, (value > 0) & (value < 1), VEIL).movedim(-1, 1)
    scale = MAX_SIDE / max(pictures.shape[-2:])
    if scale < 1:
        pictures = F.interpolate(pictures, scale_factor=scale, mode="area")
    return pictures * 2 - 1
