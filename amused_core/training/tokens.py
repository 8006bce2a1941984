"""Cache the tokens of all training pictures, made consistent between backgrounds.

The VQ encoder sees far more than one cell, so flat white may get fifty different codes, and the middle of a thing other
codes on another background. That is noise a token model cannot predict. Two rules remove it: a flat cell gets the one
code of its background; a cell all inside the thing gets the code that it has on the first background.

python -m amused_core.training.tokens --run RUN
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoints import load_checkpoint, load_module, save_checkpoint
from .data import compose_all, find_font, render_all
from .progress import psnr
from .things import BACKGROUNDS, THINGS
from .vq import build_vq


@torch.no_grad()
def encode(model: nn.Module, pictures: Tensor, batch: int = 20) -> Tensor:
    """Token ids int64 `[B, h, w]` of float pictures `[B, 3, H, W]` by diffusers' `VQModel`."""
    parts = []
    for piece in pictures.split(batch):
        latents = model.encode(piece).latents
        parts.append(model.quantize(latents)[2][2].reshape(len(piece), *latents.shape[-2:]))
    return torch.cat(parts)


@torch.no_grad()
def decode(model: nn.Module, tokens: Tensor, batch: int = 20) -> Tensor:
    """Float pictures `[B, 3, H, W]` (0..1) of token ids `[B, h, w]`."""
    parts = []
    for piece in tokens.long().split(batch):
        shape = (*piece.shape, model.config.latent_channels)
        parts.append(model.decode(piece, force_not_quantize=True, shape=shape).sample)
    return torch.cat(parts).clamp(0, 1)


def canonicalise(tokens: Tensor, alpha: Tensor, backgrounds: int) -> Tensor:
    """Make `tokens` `[T * backgrounds, h, w]` consistent; `alpha` (uint8 `[T, H, W]`) tells thing from background."""
    count, height, width = len(alpha), *tokens.shape[1:]
    cells = alpha.reshape(count, 1, *alpha.shape[1:]).float()
    size = (alpha.shape[1] // height, alpha.shape[2] // width)
    flat = F.max_pool2d(cells, size)[:, 0] == 0
    solid = F.max_pool2d(-cells, size)[:, 0] == -255
    result = tokens.reshape(count, backgrounds, height, width).clone()
    for index in range(backgrounds):
        view = result[:, index]
        view[flat] = view[flat].mode().values
        view[solid] = result[:, 0][solid]
    return result.reshape(tokens.shape)


def load_vq(path: Path) -> nn.Module:
    """The VQ-GAN of a training checkpoint, in eval mode."""
    tensors, _ = load_checkpoint(path)
    model = build_vq()
    load_module("model", model, tensors)
    return model.eval()


def main(argv: Sequence[str] | None = None) -> None:
    """Write RUN/tokens.safetensors from RUN/vq.safetensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--font", help="path of NotoColorEmoji.ttf")
    args = parser.parse_args(argv)
    things = render_all([thing.glyph for thing in THINGS], find_font(args.font))
    model = load_vq(args.run / "vq.safetensors")
    pictures = compose_all(things)
    raw = encode(model, pictures)
    tokens = canonicalise(raw, things[:, 3], len(BACKGROUNDS))
    before, after = (psnr(decode(model, ids), pictures).mean() for ids in (raw, tokens))
    meta = {"things": [thing.name for thing in THINGS], "backgrounds": list(BACKGROUNDS)}
    save_checkpoint(args.run / "tokens.safetensors", {"tokens": tokens.to(torch.int16)}, meta)
    print(f"{len(tokens)} pictures: {before:.2f} dB as encoded, {after:.2f} dB made consistent")


if __name__ == "__main__":
    main()
