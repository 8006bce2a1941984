"""The LATENT of aMUSEd: float32 [B,1,h,w] of codes, 0 = masked, k + 1 = token k.

Zero means masked because ComfyUI treats an all-zero latent as empty, and pads and composes with zeros.
Inside the model the same grid is one-hot, float [B,K,h,w]; a masked cell is zero in all channels.
ComfyUI needs the model's input to have as many channels as its output, and half precision keeps zeros and ones exact.
"""

from __future__ import annotations

from collections.abc import Callable

import comfy.latent_formats
import torch
from torch import Tensor

from .. import compat
from ..sample.checks import EMPTY_CHANNELS, check_codes


class Channels(int):
    """The one channel, which also claims to be any number that no empty latent for us has.

    Stock samplers cut an all-zero latent whose number of channels is not the model's down to it, and nothing could
    tell any more that it was made for another model. So they leave those alone, and `check_codes` refuses them.
    """

    def __ne__(self, other: object) -> bool:
        """What ComfyUI asks; true for what may be cut down."""
        return other in EMPTY_CHANNELS


class AmusedLatentFormat(comfy.latent_formats.LatentFormat):
    """Latent format of one checkpoint.

    Args:
        codebook_size: number of codes K.
        factor: pixels per side of a cell.
        colors: gives the mean colour of each code, float [K,3] in 0..1; called only when a preview is wanted.
        decoder: gives a function from one-hot grids to the picture of the first one, float [1,3,H,W] in -1..1; called
            only for decoded previews. None: there are only cheap ones.
    """

    latent_channels = Channels(1)
    # ComfyUI reports that it found no such file when it is set to "taesd", and goes on with what it has.
    taesd_decoder_name = "(none needed: aMUSEd's own VAE makes the previews)"

    def __init__(
        self,
        codebook_size: int,
        factor: int,
        colors: Callable[[], Tensor],
        decoder: Callable[[], Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        self.codebook_size = codebook_size
        self.spacial_downscale_ratio = factor
        self._colors = colors
        self._decoder = decoder

    @property
    def latent_rgb_factors(self) -> list[list[float]]:
        """For the stock preview: colour of each code in -1..1; a masked cell has no plane and comes out grey.

        Where `latent_rgb_factors_reshape` gives a picture, its three channels are passed on.
        """
        if self._decodes():
            return torch.eye(3).tolist()
        return (self._colors() * 2 - 1).tolist()

    @property
    def latent_rgb_factors_reshape(self) -> Callable[[Tensor], Tensor] | None:
        """What the stock preview does to one-hot grids first: decodes them when ComfyUI is set to good previews."""
        return self._decoder() if self._decodes() else None

    def _decodes(self) -> bool:
        return self._decoder is not None and compat.decoded_previews()

    def process_in(self, latent: Tensor) -> Tensor:
        """Checks that a latent holds codes, and passes it on."""
        return check_codes(latent, self.codebook_size)

    def process_out(self, latent: Tensor) -> Tensor:
        """Codes or one-hot grids -> codes."""
        return latent if latent.shape[1] == 1 else one_hot_to_codes(latent)


def tokens_to_codes(tokens: Tensor, codebook_size: int) -> Tensor:
    """Tokens int64 [B,h,w], ids from `codebook_size` on being masked -> codes float32 [B,1,h,w]."""
    return torch.where(tokens < codebook_size, tokens + 1, 0)[:, None].float()


def codes_to_tokens(codes: Tensor, mask_id: int) -> Tensor:
    """Codes [B,1,h,w] -> tokens int64 [B,h,w]; masked cells hold `mask_id`."""
    codes = codes[:, 0].round().long()
    return torch.where(codes > 0, codes - 1, mask_id)


def tokens_to_one_hot(tokens: Tensor, codebook_size: int) -> Tensor:
    """Tokens int64 [B,h,w], ids from `codebook_size` on being masked -> one-hot grids float32 [B,K,h,w]."""
    one_hot = torch.zeros(len(tokens), codebook_size, *tokens.shape[1:], device=tokens.device)
    known = (tokens < codebook_size).float()
    return one_hot.scatter_(1, tokens.clamp(max=codebook_size - 1)[:, None], known[:, None])


def one_hot_to_codes(one_hot: Tensor) -> Tensor:
    """One-hot [B,K,h,w] -> codes float32 [B,1,h,w]."""
    value, index = one_hot.max(dim=1, keepdim=True)
    return torch.where(value > 0, index + 1, 0).float()
