"""Train the VQ-GAN (no adversary: an autoencoder with a codebook) of the embedded model.

python -m amused_core.small_world.training.vq --run RUN [--minutes 20 | --steps N]     start or go on
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ...files import training_state
from ...images.grids import save_grid
from ...images.psnr import psnr
from ...sampling.step_generator import step_generator
from ..scenes.layout import SIDE, Scene
from ..scenes.splits import random_scene
from ..scenes.sprites import draw
from .codebook import Codebook
from .data import FONT_OPTION, find_font, render_broad
from .progress import TrainingLog, parse_options, train
from .vq_data import Examples, draw_examples
from .vq_init import init_vq

VQ_CONFIG: dict[str, Any] = {
    "block_out_channels": [16, 32, 48, 96],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "latent_channels": 16,
    "vq_embed_dim": 16,
    "num_vq_embeddings": 1024,
    "norm_num_groups": 8,
    "sample_size": 128,
    "mid_block_add_attention": False,
    "lookup_from_codebook": True,
    "force_upcast": True,
}
LEARNING_RATE = 7e-4
_PLAIN_UNTIL, _FULL_FROM, _RESEED_UNTIL = 0.12, 0.5, 0.8  # parts of the run
_CROP_SIDE = SIDE // 2
_WARM_UP = 100


def build_vq(config: dict[str, Any] = VQ_CONFIG) -> nn.Module:
    """diffusers' `VQModel` with `config`."""
    from diffusers import VQModel

    return VQModel(**config)


class ColourHeads(nn.Module):
    """1x1 RGB read-outs of the decoder's inner features: they make every level carry colour. Not part of the model."""

    def __init__(self, model: nn.Module, generator: Generator) -> None:
        super().__init__()
        widths = list(reversed(model.config.block_out_channels))
        self.heads = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in widths[:1] + widths[:-1])
        self.features: list[Tensor] = []
        for head in self.heads:
            nn.init.normal_(head.weight, 0, head.in_channels**-0.5, generator=generator)
            nn.init.constant_(head.bias, 0.7)
        for block in [model.decoder.mid_block, *model.decoder.up_blocks[: len(widths) - 1]]:
            block.register_forward_hook(lambda module, args, output: self.features.append(output))

    def loss(self, target: Tensor) -> Tensor:
        """Mean L1 between the read-outs of the last forward pass and the average-pooled `target` `[B, 3, H, W]`."""
        losses = []
        for head, feature in zip(self.heads, self.features, strict=True):
            losses.append(F.l1_loss(head(feature), F.adaptive_avg_pool2d(target, feature.shape[-2:])))
        return torch.stack(losses).mean()


def picture_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 + 2 MSE + half the L1 of the gradients + half the L1 at a quarter of the size; both `[B, 3, H, W]`."""
    difference = output - target
    gradient = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    coarse = F.avg_pool2d(difference, 4).abs().mean()
    return difference.abs().mean() + 2 * difference.square().mean() + 0.5 * gradient + 0.5 * coarse


def learning_rate_factor(step: int, progress: float, floor: float = 0.03) -> float:
    """Linear warm-up, then a cosine down to `floor`; `progress` is the part of the run that is done, 0..1."""
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return min(1.0, (step + 1) / _WARM_UP) * cosine


class VQTrainer:
    """The state of one run: model, codebook, optimizer, step. `emoji`: uint8 RGBA `[N, 4, side, side]`."""

    def __init__(self, emoji: Tensor, seed: int = 0, config: dict[str, Any] = VQ_CONFIG) -> None:
        self.emoji, self.seed = emoji, seed
        self.model = build_vq(config).to(memory_format=torch.channels_last)
        generator = step_generator(seed, -1)
        init_vq(self.model, draw_examples(emoji, generator, 16, _CROP_SIDE).target, generator)
        self.heads = ColourHeads(self.model, generator)
        self.codebook = Codebook(self.model.quantize.embedding.weight)
        self.model.quantize.embedding.weight.requires_grad_(False)
        parameters = [p for p in [*self.model.parameters(), *self.heads.parameters()] if p.requires_grad]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
        self.step_count, self.seconds = 0, 0.0

    def _encode(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """`(latents to decode, pull)`: thing cells of the source, flat cells of the target, and how far apart the
        thing cells of the two are (mean square, in units of the latents' variance)."""
        pictures = torch.cat([examples.source, examples.target[examples.swapped]])
        latents = self.model.quant_conv(self.model.encoder(pictures.contiguous(memory_format=torch.channels_last)))
        source, twins = latents[: len(examples.source)], latents[len(examples.source) :]
        if not len(twins):
            return source, latents.new_zeros(())
        target = source.clone()
        target[examples.swapped] = twins
        things = (~examples.flat[examples.swapped]).float()
        apart = ((source[examples.swapped] - twins).square().mean(1, keepdim=True) * things).sum()
        pull = apart / things.sum().clamp_min(1) / latents.detach().var().clamp_min(1e-6)
        return torch.where(examples.flat, target, source), pull

    def step(self, progress: float) -> dict[str, float]:
        """One update at `progress` (0..1) of the run; returns the loss, the PSNR of its batch and the pull."""
        started = time.monotonic()
        generator = step_generator(self.seed, self.step_count)
        full = progress >= _FULL_FROM or self.step_count % 4 == 3
        examples = draw_examples(self.emoji, generator, *((2, SIDE) if full else (6, _CROP_SIDE)))
        self.heads.features.clear()
        latents, pull = self._encode(examples)
        commit = latents.new_zeros(())
        quantised = latents
        if progress >= _PLAIN_UNTIL:
            if not self.codebook.ready:
                self._start_codebook(generator)
            quantised, commit = self.codebook.quantise(latents)
            self.codebook.update(latents.detach())
            if self.step_count % 200 == 0 and progress < _RESEED_UNTIL:
                self.codebook.reseed(latents.detach(), generator)
        output = self.model.decoder(self.model.post_quant_conv(quantised))
        head_weight = 0.5 if progress < 0.3 else 0.1
        loss = picture_loss(output, examples.target) + head_weight * self.heads.loss(examples.target)
        loss = loss + 0.1 * commit + 0.1 * pull
        self._update(loss, learning_rate_factor(self.step_count, progress))
        self.step_count += 1
        self.seconds += time.monotonic() - started
        quality = float(psnr(output.detach(), examples.target).mean())
        return {"loss": float(loss.detach()), "psnr": quality, "pull": float(pull.detach())}

    def _update(self, loss: Tensor, factor: float) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * factor
        self.optimizer.step()

    @torch.no_grad()
    def _start_codebook(self, generator: Generator) -> None:
        batches = (draw_examples(self.emoji, generator, 8, _CROP_SIDE) for _ in range(60))
        self.codebook.start(torch.cat([self._encode(batch)[0] for batch in batches]), generator)
        self.heads.features.clear()

    def save(self, path: Path) -> None:
        """Write everything that the run needs to go on."""
        tensors = training_state.module_tensors(model=self.model, heads=self.heads)
        tensors |= self.codebook.tensors("codebook") | training_state.optimizer_state(self.optimizer)[0]
        training_state.save_state(path, tensors, {"step": self.step_count, "seconds": self.seconds, "seed": self.seed})

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        tensors, meta = training_state.load_state(path)
        training_state.load_modules(tensors, model=self.model, heads=self.heads)
        self.codebook.load("codebook", tensors)
        training_state.restore_optimizer(self.optimizer, tensors)
        self.step_count, self.seconds, self.seed = meta["step"], meta["seconds"], meta["seed"]


@torch.no_grad()
def round_trip(model: nn.Module, pictures: Tensor) -> Tensor:
    """Encode, quantise and decode float `[B, 3, H, W]` pictures one by one, as diffusers' `VQModel` does."""
    return torch.cat([model.decode(model.encode(picture[None]).latents).sample for picture in pictures]).clamp(0, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Train until `--minutes` of training time or `--steps` are reached; goes on from the checkpoint in the folder."""
    args = parse_options(__doc__, argv, 20, threads={"type": int, "default": 2}, font=FONT_OPTION)
    torch.set_num_threads(args.threads)
    trainer = VQTrainer(render_broad(find_font(args.font)), args.seed)
    checkpoint = args.run / "vq.safetensors"
    if checkpoint.exists():
        trainer.load(checkpoint)
    held_out = draw(held_out_scenes())
    log = TrainingLog(args.run / "vq.csv", ("step", "seconds", "loss", "psnr", "pull"), trainer.step_count)

    def save() -> None:
        trainer.save(checkpoint)
        log.plot(args.run / "vq.png", "psnr")
        save_grid(torch.cat([held_out[:12], round_trip(trainer.model, held_out[:12])]), args.run / "vq-grid.png", 12)
        trainer.heads.features.clear()

    train(trainer, log, args, save, 1000)
    values = psnr(round_trip(trainer.model, held_out), held_out)
    print(f"round trip of {len(held_out)} scenes: {values.mean():.2f} dB mean, {values.min():.2f} dB worst")


def held_out_scenes(count: int = 48) -> list[Scene]:
    """Scenes to measure with, drawn with a seed that no training step has."""
    generator = step_generator(-1, 0)
    return [random_scene(generator) for _ in range(count)]


if __name__ == "__main__":
    main()
