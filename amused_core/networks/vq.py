"""Pictures to tokens and back: a thin wrapper around diffusers' `VQModel`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AmusedError
from ..settings.inputs import check_images, token_grids
from .decoder import fast_decoder, half_decoder
from .threads import decoding_threads, fixed_threads, sleeping_threads

# Weights below which decoding takes one thread: several gain little, and on a busy machine cost ten times the time.
SMALL = 10_000_000


class VQ:
    """The VQ-GAN of a checkpoint, in fp32.

    Args:
        module: diffusers' `VQModel`.
        device: where inputs go; None is where the weights are (offloading hooks may bring them later).

    Attributes:
        factor: pixels per side of a token's cell.
        codebook_size: number of codes.
    """

    def __init__(self, module: Any, device: torch.device | None = None) -> None:
        self.module = module
        self._device = device
        self.factor: int = 2 ** (len(module.config.block_out_channels) - 1)
        self._small = sum(weight.numel() for weight in module.parameters()) < SMALL
        self.codebook_size: int = module.config.num_vq_embeddings

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The nearest code of every cell.

        Args:
            images: float [B,H,W,3] in 0..1; H and W multiples of `factor`.

        Returns:
            int64 [B, H/factor, W/factor].
        """
        check_images(images, self.factor)
        pixels = images.movedim(-1, 1).to(self._where(), torch.float32)
        with sleeping_threads():
            latents = self.module.encode(pixels).latents
            codes = self.module.quantize(latents)[2][2]
        return codes.view(latents.shape[0], *latents.shape[-2:])

    @torch.no_grad()
    def decode(self, tokens: Tensor, half: bool = False) -> Tensor:
        """The picture of a token grid.

        Args:
            tokens: int64 [B,h,w], 0 to `codebook_size - 1`.
            half: on a GPU, in fp16 where the values allow it; a picture that comes out damaged is decoded again in
                fp32.

        Returns:
            float32 [B, h*factor, w*factor, 3] in 0..1.
        """
        if token_grids(tokens, "tokens").min() < 0 or tokens.max() >= self.codebook_size:
            raise AmusedError(
                f"Tokens from {tokens.min().item()} to {tokens.max().item()} cannot be decoded; allowed are 0 to "
                f"{self.codebook_size - 1} (are some cells still masked?)."
            )
        tokens = tokens.to(self._where())
        decoder = fast_decoder(self.module)
        try:
            # One picture at a time: it costs no time, and the peak memory is that of one.
            with self._threads(decoder):
                return torch.cat([self._decode(grid[None], decoder, half and tokens.is_cuda) for grid in tokens])
        finally:
            if decoder is not None:
                decoder.spare.clear()

    def _decode(self, tokens: Tensor, decoder: nn.Module | None, half: bool) -> Tensor:
        shape = (*tokens.shape, self.module.config.latent_channels)
        if half and self.module.config.norm_type != "spatial":
            latents = self.module.post_quant_conv(self.module.quantize.get_codebook_entry(tokens, shape))
            picture = half_decoder(self.module, latents)(latents).float()
            if bool(torch.isfinite(picture).all()):
                return picture.clamp(0, 1).movedim(1, -1)
        if decoder is None:
            picture = self.module.decode(tokens, force_not_quantize=True, shape=shape).sample
        else:
            codes = self.module.quantize.get_codebook_entry(tokens, shape)
            picture = decoder(self.module.post_quant_conv(codes).contiguous(memory_format=torch.channels_last))
        return picture.clamp(0, 1).movedim(1, -1)

    def _threads(self, decoder: nn.Module | None) -> AbstractContextManager[None]:
        """The last bits of diffusers' own decoder depend on the number of threads, so that must not follow the load."""
        if self._small:
            return fixed_threads(1)
        return sleeping_threads() if decoder is None else decoding_threads()

    def _where(self) -> torch.device:
        return next(self.module.parameters()).device if self._device is None else self._device
