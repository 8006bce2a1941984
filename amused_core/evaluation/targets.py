"""The targets of an evaluation: the true pictures of its prompts, and how close a model's VQ-GAN can come to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.psnr import psnr
from ..model import AmusedModel
from ..small_world.scenes.layout import Scene
from ..small_world.scenes.sprites import draw
from .features import to_planes

_BATCH = 25


@dataclass(frozen=True)
class Targets:
    """The true pictures of scenes and their round trip through a model's VQ-GAN.

    Attributes:
        scenes: what they show.
        pictures: float32 [B,H,W,3] in 0..1, in the model's own size.
        planes: float32 [B,3,128,128], the same for the judge.
        tokens: int64 [B,h,w], `pictures` encoded.
        round_trip: float32 [B,3,128,128], `tokens` decoded.
        ceiling: PSNR of `round_trip` to `planes`, dB [B]; what a perfect choice of tokens reaches.
    """

    scenes: list[Scene]
    pictures: Tensor
    planes: Tensor
    tokens: Tensor
    round_trip: Tensor
    ceiling: Tensor


def encode_scenes(model: AmusedModel, scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """The `pictures`, `planes` and `tokens` of `Targets`."""
    best = model.checkpoint.recommended
    planes = draw(scenes)
    sized = planes
    if planes.shape[-2:] != (best.height, best.width):
        sized = F.interpolate(planes, (best.height, best.width), mode="bilinear", antialias=True, align_corners=False)
    pictures = sized.clamp(0, 1).movedim(1, -1)
    return pictures, planes, torch.cat([model.vq.encode(piece).cpu() for piece in pictures.split(_BATCH)])


def make_targets(model: AmusedModel, scenes: Sequence[Scene]) -> Targets:
    """Draws `scenes` and passes them through the VQ-GAN of `model`."""
    pictures, planes, tokens = encode_scenes(model, scenes)
    round_trip = decode_tokens(model, tokens)
    return Targets(list(scenes), pictures, planes, tokens, round_trip, psnr(round_trip, planes))


def decode_tokens(model: AmusedModel, tokens: Tensor) -> Tensor:
    """int64 [B,h,w] -> float32 [B,3,128,128] in 0..1."""
    return torch.cat([to_planes(model.vq.decode(piece).cpu()) for piece in tokens.split(_BATCH)])
