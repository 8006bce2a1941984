"""Faster decoders of the VQ-GAN, built from diffusers' own: for GPUs in fp16, and for CPUs with less work.

On a CPU, activations lie channels last. Residual blocks and upsamplings do their 3x3 convolutions by Winograd's method,
and norm, activation and residual with them, on the rows in hand. Pictures differ from diffusers' by rounding: at most
one 8-bit level.
"""

from .half import half_decoder
from .optimized import fast_decoder

__all__ = ["fast_decoder", "half_decoder"]
