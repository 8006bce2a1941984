"""The VAE: the core's VQ-GAN behind ComfyUI's own `VAE`, so that the stock VAE nodes work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....amused_core.checkpoint import Checkpoint
from ....amused_core.checkpoint.graph_file import ABOUT, describe
from ....amused_core.errors import AmusedError
from ....amused_core.images.masks import cells_to_mask
from ....amused_core.model.loading import build_vq
from ....amused_core.networks.vq import VQ
from .. import compat
from ..load import folders
from ..sample.checks import codes_of
from .pictures import rgb
from .preview import code_colors, decoded

UNDECIDED = 0.5
# Bytes of activations per pixel, channel of the widest level and byte of dtype: ComfyUI's figures for 128 channels.
ENCODE_MEMORY, DECODE_MEMORY = 1767 / 128, 2178 / 128


class FirstStage(nn.Module):
    """The VQ in ComfyUI's terms: pixels [B,3,H,W] in 0..1, and codes [B,1,h,w].

    It only holds diffusers' `VQModel`, whose `device` ComfyUI could not set.
    """

    def __init__(self, vq: VQ) -> None:
        super().__init__()
        self.vq = vq
        self.module = vq.module

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels -> codes float32."""
        return (self.vq.encode(pixels.movedim(1, -1)) + 1)[:, None].float()

    def features(self, pixels: Tensor) -> Tensor:
        """Pixels -> latents [B,C,h,w] before the nearest codes are taken."""
        return self.module.encode(pixels).latents

    def nearest(self, features: Tensor) -> Tensor:
        """Latents [B,C,h,w] -> codes float32 [B,1,h,w]."""
        batch, _, height, width = features.shape
        return (self.module.quantize(features)[2][2].view(batch, 1, height, width) + 1).float()

    def decode(self, codes: Tensor) -> Tensor:
        """Codes -> pixels; masked cells come out grey. Stops between two pictures when the user cancels."""
        codes = codes[:, 0].round().long()
        masked = codes == 0
        pictures = torch.cat([self._decode(_fill(grid - 1, gaps)) for grid, gaps in zip(codes, masked, strict=True)])
        pictures[cells_to_mask(masked, self.vq.factor) > 0] = UNDECIDED
        return pictures.movedim(-1, 1)

    def _decode(self, grid: Tensor) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        return self.vq.decode(grid[None])


class AmusedVAE(comfy.sd.VAE):
    """A VAE whose latent is a grid of token ids, which must travel in float32 and must never be averaged.

    Args:
        vq: the network.
        checkpoint: what it came from.
    """

    def __init__(self, vq: VQ, checkpoint: Checkpoint) -> None:
        with compat.no_vae_warning():
            super().__init__(sd={})  # Sets every attribute that this version of ComfyUI wants, then gives up.
        management = comfy.model_management
        self.first_stage_model = FirstStage(vq).eval()
        self.device = management.vae_device()
        self.output_device = management.intermediate_device()
        self.vae_dtype = torch.float32
        self.working_dtypes = [torch.float32]
        self.disable_offload = True
        self.upscale_ratio = self.downscale_ratio = vq.factor
        self.latent_channels = 1
        self.process_input = lambda image: image.clamp(0, 1)
        self.process_output = lambda image: image
        width = vq.module.config.block_out_channels[0]
        size = management.dtype_size
        self.memory_used_encode = lambda shape, dtype: ENCODE_MEMORY * width * shape[2] * shape[3] * size(dtype)
        self.memory_used_decode = lambda shape, dtype: (
            DECODE_MEMORY * width * shape[2] * shape[3] * vq.factor**2 * size(dtype)
        )
        self.patcher = ModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=management.vae_offload_device()
        )
        self.codebook_size = vq.codebook_size
        self.checkpoint = checkpoint
        self._colors: Tensor | None = None

    def vae_output_dtype(self) -> torch.dtype:
        """float32, also where a newer version is told to pass on half precision (`--fp16-intermediates`)."""
        return torch.float32

    def decode(self, samples_in: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Codes [B,1,h,w] -> pictures [B,H,W,3]."""
        return super().decode(self._codes(samples_in), *args, **kwargs)

    def decode_tiled(self, samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As `decode`, in overlapping tiles."""
        return super().decode_tiled(self._codes(samples), *args, **kwargs)

    def encode(self, pixel_samples: Tensor) -> Tensor:
        """Pictures [B,H,W,C] -> codes [B,1,h,w]; of their channels the first three count, as everywhere."""
        return super().encode(self._pixels(pixel_samples))

    def encode_tiled(self, pixel_samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As `encode`, in overlapping tiles."""
        return super().encode_tiled(self._pixels(pixel_samples), *args, **kwargs)

    def encode_tiled_(self, pixel_samples: Tensor, tile_x: int = 512, tile_y: int = 512, overlap: int = 64) -> Tensor:
        """Pixels [B,3,H,W] -> codes: the tiles are blended before the nearest codes are taken, once."""
        stage, asked = self.first_stage_model, (tile_x, tile_y, overlap)
        # The walk over the tiles counts in whole cells.
        tile_x, tile_y, overlap = (value // self.downscale_ratio * self.downscale_ratio for value in asked)
        if overlap >= min(tile_x, tile_y):
            raise AmusedError(
                f"The tiles are {asked[0]}x{asked[1]} pixels and overlap by {asked[2]}; the overlap must be at least "
                f"one cell of {self.downscale_ratio} pixels smaller than a tile."
            )
        height, width = pixel_samples.shape[-2:]
        steps = pixel_samples.shape[0] * comfy.utils.get_tiled_scale_steps(width, height, tile_x, tile_y, overlap)
        features = comfy.utils.tiled_scale(
            pixel_samples,
            lambda tile: stage.features(self.process_input(tile).to(self.vae_dtype).to(self.device)).float(),
            tile_x,
            tile_y,
            overlap,
            upscale_amount=1 / self.downscale_ratio,
            out_channels=stage.module.config.latent_channels,
            output_device=self.output_device,
            pbar=comfy.utils.ProgressBar(steps),
        )
        return stage.nearest(features.to(self.device)).to(self.output_device)

    def get_sd(self) -> dict[str, Tensor]:
        """The weights under the keys of diffusers' `VQModel`, and what `GraphFile` reads them with."""
        about = describe("vqvae", self.checkpoint, folders.name_of(self.checkpoint.path))
        return {**self.first_stage_model.module.state_dict(), ABOUT: about}

    def code_colors(self) -> Tensor:
        """Mean colour of each code, float [K,3] in 0..1, worked out once."""
        if self._colors is None:
            comfy.model_management.load_models_gpu([self.patcher], force_full_load=True)
            self._colors = code_colors(self.first_stage_model.vq)
        return self._colors

    def previewer(self) -> Callable[[Tensor], Tensor]:
        """A function from one-hot grids to a preview; see `preview.decoded`.

        Loads the VAE now, before the sampler's model: in a run nothing may be loaded, which could push that one out.
        """
        comfy.model_management.load_models_gpu([self.patcher], force_full_load=True)
        return partial(decoded, vq=self.first_stage_model.vq)

    def _pixels(self, image: Tensor) -> Tensor:
        """The colours of a picture that has at least one cell; ComfyUI cuts off what fills none."""
        image, cell = rgb(image), self.downscale_ratio
        if min(image.shape[1:3]) < cell:
            raise AmusedError(
                f"The image is {image.shape[2]}x{image.shape[1]} pixels, less than one cell of {cell}; enlarge it."
            )
        return image

    def _codes(self, samples: Tensor) -> Tensor:
        return codes_of(samples, self.codebook_size)


def load_vae(checkpoint: Checkpoint) -> AmusedVAE:
    """The VAE of a checkpoint, always fp32."""
    return AmusedVAE(build_vq(checkpoint), checkpoint)


def _fill(tokens: Tensor, gaps: Tensor) -> Tensor:
    """Puts the most frequent known token into the gaps, so that what is painted over later does not bleed far."""
    known = tokens[~gaps]
    return torch.where(gaps, known.mode().values if len(known) else 0, tokens)
