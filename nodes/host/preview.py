"""Colours of single codes, for ComfyUI's own preview while sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from ...amused_core.vq import VQ

# Decoding every code of a large codebook takes minutes on a CPU; a linear fit on as many codes as this takes seconds.
MAX_DECODED = 1024


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
