"""Refine the VQ decoder on the cached tokens; the encoder and the codebook, and so the tokens, stay as they are.

The consistent tokens of `tokens.py` are not quite what the decoder was trained on. Half of the steps teach it those,
the other half keep its general round trip.

python -m amused_core.training.refine --run RUN [--steps 2000]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoints import load_checkpoint, module_tensors, save_checkpoint
from .data import compose_all, find_font, render_all, render_broad
from .progress import Log, progress_bar, psnr, step_generator
from .things import THINGS
from .tokens import decode, encode, load_vq
from .vq import picture_loss, round_trip
from .vq_data import draw

LEARNING_RATE = 4e-4


class DecoderRefiner:
    """`pictures` `[N, 3, H, W]` with their cached `tokens` `[N, h, w]`; `things`, `emoji`: uint8 RGBA for others."""

    def __init__(self, model: nn.Module, pictures: Tensor, tokens: Tensor, things: Tensor, emoji: Tensor) -> None:
        self.model, self.pictures, self.tokens = model, pictures, tokens.long()
        self.things, self.emoji = things, emoji
        self.parameters = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-4)

    def _example(self, step: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = step_generator(seed, step)
        if step % 2 == 0:
            index = torch.randint(len(self.pictures), (1,), generator=generator)
            return self.pictures[index], self.tokens[index]
        picture = draw(self.things, self.emoji, generator)[None]
        return picture, encode(self.model, picture)

    def step(self, step: int, steps: int, seed: int) -> dict[str, float]:
        """Update `step` of `steps`; returns loss and PSNR."""
        target, tokens = self._example(step, seed)
        codes = self.model.quantize.get_codebook_entry(tokens, (*tokens.shape, self.model.config.latent_channels))
        output = self.model.decoder(self.model.post_quant_conv(codes))
        loss = picture_loss(output, target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        self.optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50) * cosine
        self.optimizer.step()
        return {"loss": float(loss.detach()), "psnr": float(psnr(output.detach(), target).mean())}


def main(argv: Sequence[str] | None = None) -> None:
    """Write RUN/vq-refined.safetensors. Short, so it starts over when it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--font", help="path of NotoColorEmoji.ttf")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    font = find_font(args.font)
    things = render_all([thing.glyph for thing in THINGS], font)
    emoji = render_broad(font)
    tokens = load_checkpoint(args.run / "tokens.safetensors")[0]["tokens"].long()
    model, pictures = load_vq(args.run / "vq.safetensors"), compose_all(things)
    refiner = DecoderRefiner(model, pictures, tokens, things, emoji)
    before = psnr(decode(model, tokens), pictures).mean()
    log = Log(args.run / "refine.csv", ("step", "seconds", "loss", "psnr"), 0)
    with progress_bar("decoder") as bar:
        for step in range(args.steps):
            log.add(step + 1, 0.0, refiner.step(step, args.steps, args.seed + 2))
            bar((step + 1) / args.steps, log.text())
    save_checkpoint(args.run / "vq-refined.safetensors", module_tensors("model", model), {"steps": args.steps})
    after, trip = psnr(decode(model, tokens), pictures).mean(), psnr(round_trip(model, pictures), pictures).mean()
    print(f"cached tokens: {before:.2f} dB before, {after:.2f} dB after; round trip {trip:.2f} dB")


if __name__ == "__main__":
    main()
