"""Refine the VQ-GAN on the tokens from `tokens.py`; they and the codebook stay as they are.

The network gets one more residual block at every level, which starts as the identity. The decoder learns to draw scenes
from their tokens, the encoder to give those tokens for the scene on any background and in any place, and every third
picture is any picture, for a general round trip.

python -m amused_core.small_world.training.refine --run RUN [--minutes 30 | --steps N]     start or go on
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...files import training_state
from ...images.grids import save_grid
from ...images.psnr import psnr
from ...sampling.step_generator import step_generator
from ..scenes.splits import random_scene
from ..scenes.sprites import draw
from .codebook import nearest
from .data import FONT_OPTION, find_font, render_broad
from .progress import TrainingLog, parse_options, train
from .tokens import SceneTokens, decode, encode, load_vq
from .vq import VQ_CONFIG, build_vq, held_out_scenes, learning_rate_factor, picture_loss, round_trip
from .vq_data import draw_examples

REFINED_CONFIG = VQ_CONFIG | {"layers_per_block": 2}
LEARNING_RATE = 6e-4
_SCENES, _OTHERS = 2, 1  # pictures in a step
_SINGLE, _CORNER = 0.45, 0.1


def deepen(model: nn.Module) -> nn.Module:
    """A copy of diffusers' `VQModel` with one more block at every level; it computes the same at first."""
    deeper = build_vq(dict(model.config) | {"layers_per_block": model.config.layers_per_block + 1})
    fresh = {name for name in deeper.state_dict() if name not in model.state_dict()}
    deeper.load_state_dict(model.state_dict(), strict=False)
    for name, module in deeper.named_modules():
        if isinstance(module, nn.Conv2d) and f"{name}.weight" in fresh and name.endswith("conv2"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return deeper


class Refiner:
    """One run: `model` is trained in place on random scenes and the `tokens` they have."""

    def __init__(self, model: nn.Module, tokens: SceneTokens, emoji: Tensor, seed: int = 0) -> None:
        self.model = model.train().to(memory_format=torch.channels_last)
        self.tokens, self.emoji, self.seed = tokens, emoji, seed
        model.quantize.embedding.weight.requires_grad_(False)
        self.codes = model.quantize.embedding.weight
        self.scale = self.codes.var().clamp_min(1e-6)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
        self.step_count, self.seconds = 0, 0.0

    def _look_up(self, tokens: Tensor) -> Tensor:
        """Codes `[B, D, h, w]` of token ids `[B, h, w]`."""
        return self.codes[tokens].permute(0, 3, 1, 2)

    def step(self, progress: float) -> dict[str, float]:
        """One update at `progress` (0..1) of the run; returns the loss and the PSNR of the scenes from their tokens."""
        started = time.monotonic()
        generator = step_generator(self.seed + 2, self.step_count)
        scenes = [random_scene(generator, _SINGLE, _CORNER) for _ in range(_SCENES)]
        others = draw_examples(self.emoji, generator, _OTHERS)
        pictures = torch.cat([draw(scenes), others.target]).contiguous(memory_format=torch.channels_last)
        latents = self.model.quant_conv(self.model.encoder(pictures))
        scene_codes = self._look_up(torch.stack([self.tokens.of(scene) for scene in scenes]))
        rest = latents[_SCENES:]
        rows = rest.detach().permute(0, 2, 3, 1)
        nearest_codes = self._look_up(nearest(rows.flatten(0, 2), self.codes).reshape(rows.shape[:3]))
        commit = (F.mse_loss(latents[:_SCENES], scene_codes) + 0.2 * F.mse_loss(rest, nearest_codes)) / self.scale
        inner = torch.cat([scene_codes, rest + (nearest_codes - rest).detach()])
        output = self.model.decoder(self.model.post_quant_conv(inner))
        loss = picture_loss(output, pictures) + 0.2 * commit
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate_factor(self.step_count, progress)
        self.optimizer.step()
        self.step_count += 1
        self.seconds += time.monotonic() - started
        quality = psnr(output.detach(), pictures)[:_SCENES].mean()
        return {"loss": float(loss.detach()), "psnr": float(quality), "commit": float(commit.detach())}

    def save(self, path: Path) -> None:
        """Write everything that the run needs to go on."""
        tensors = training_state.module_tensors(model=self.model) | training_state.optimizer_state(self.optimizer)[0]
        training_state.save_state(path, tensors, {"step": self.step_count, "seconds": self.seconds, "seed": self.seed})

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        tensors, meta = training_state.load_state(path)
        training_state.load_modules(tensors, model=self.model)
        training_state.restore_optimizer(self.optimizer, tensors)
        self.step_count, self.seconds, self.seed = meta["step"], meta["seconds"], meta["seed"]


def load_refined(path: Path) -> nn.Module:
    """The VQ-GAN of RUN/vq-refined.safetensors, in eval mode."""
    model = build_vq(REFINED_CONFIG)
    training_state.load_modules(training_state.load_state(path)[0], model=model)
    return model.eval()


def report(model: nn.Module, tokens: SceneTokens) -> str:
    """PSNR on scenes that no training step draws with the same seed, from their tokens and through the encoder."""
    model.eval()
    scenes = held_out_scenes()
    pictures, put = draw(scenes), torch.stack([tokens.of(scene) for scene in scenes])
    drawn, trip = psnr(decode(model, put), pictures), psnr(round_trip(model, pictures), pictures)
    same = float((encode(model, pictures) == put).float().mean())
    model.train()
    return f"from tokens {drawn.mean():.2f} dB, round trip {trip.mean():.2f} dB, tokens recovered {same:.1%}"


def main(argv: Sequence[str] | None = None) -> None:
    """Write RUN/vq-refined.safetensors; goes on from it if it is there."""
    args = parse_options(__doc__, argv, 30, threads={"type": int, "default": 2}, font=FONT_OPTION)
    torch.set_num_threads(args.threads)
    tokens = SceneTokens.load(args.run / "tokens.safetensors")
    refiner = Refiner(
        deepen(load_vq(args.run / "vq.safetensors")), tokens, render_broad(find_font(args.font)), args.seed
    )
    checkpoint = args.run / "vq-refined.safetensors"
    if checkpoint.exists():
        refiner.load(checkpoint)
    log = TrainingLog(args.run / "refine.csv", ("step", "seconds", "loss", "psnr", "commit"), refiner.step_count)
    print("before:", report(refiner.model, tokens))

    def save() -> None:
        refiner.save(checkpoint)
        log.plot(args.run / "refine.png", "psnr")
        scenes = held_out_scenes(12)
        drawn = decode(refiner.model, torch.stack([tokens.of(scene) for scene in scenes]))
        save_grid(torch.cat([draw(scenes), drawn]), args.run / "refine-grid.png", 12)

    train(refiner, log, args, save, 500)
    print("after:", report(refiner.model, tokens))


if __name__ == "__main__":
    main()
