"""Which codes may be drawn: sampling temperature, top-k and top-p."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

Filter = Callable[[Tensor, int], Tensor]
# Dividing logits by less leaves the range of fp32; only the likeliest codes are left long before.
LEAST = 1e-6


def filtered_probabilities(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Probabilities to draw codes from: `softmax(logits / temperature)`, with only the likeliest codes left.

    First the `top_k` likeliest (Fan et al. 2018), then the smallest set of those whose probability reaches `top_p`
    (Holtzman et al. 2020). Of equally likely codes the lower ids come first, so the set is the same on every device.

    Args:
        logits: float32 [...,K]; minus infinity is a code that is never drawn.
        temperature: above 0; below 1 the likely codes get likelier.
        top_k: 0 to K; 0 is all.
        top_p: above 0, up to 1; 1 is all.

    Returns:
        float32 [...,K] with a sum of 1; exactly `logits.softmax(-1)` for the defaults.
    """
    logits = logits / temperature
    if not top_k and top_p == 1:
        return logits.softmax(-1)
    ranked, codes = logits.sort(dim=-1, descending=True, stable=True)
    if top_k:
        ranked, codes = ranked[..., :top_k], codes[..., :top_k]
    probs = ranked.softmax(-1)
    if top_p < 1:
        likelier = F.pad(probs.cumsum(-1), (1, 0))[..., :-1]
        probs = probs.masked_fill(likelier >= top_p, 0)
        probs = probs / probs.sum(-1, keepdim=True)
    return logits.new_zeros(logits.shape).scatter(-1, codes, probs)


def ends(temperature: float, end: float) -> tuple[float, float]:
    """Temperatures of the first and the last step; an `end` of 0 is that of the first."""
    return temperature, end or temperature


def logits_filter(temperatures: Sequence[float], top_k: int, top_p: float) -> Filter | None:
    """`filtered_probabilities` with the temperature of each step, for the loop; None where all codes stay as they are.

    Halton-MaskGIT (Besnier et al. 2025) scales the logits from 1 to 1.2 over the run: temperatures from 1 to 0.83.
    """
    if top_k == 0 and top_p == 1 and all(temperature == 1 for temperature in temperatures):
        return None
    return lambda logits, index: filtered_probabilities(logits, max(temperatures[index], LEAST), top_k, top_p)
