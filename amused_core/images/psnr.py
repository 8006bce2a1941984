"""How close two pictures are."""

from __future__ import annotations

from torch import Tensor


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, float `[B, ...]` twice, `target` in 0..1 -> `[B]`; at most 100."""
    error = (output.clamp(0, 1) - target).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-10).log10()
