"""Train the U-ViT and the text encoder on cached tokens.

python -m amused_core.small_world.training.masked --run RUN [--minutes 60 | --steps N]     start or go on
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..scenes.captions import caption, words
from ..scenes.layout import Scene
from ..scenes.splits import random_scene
from ..scenes.things import THINGS
from .checkpoints import (
    load_checkpoint,
    load_module,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from .curriculum import Curriculum
from .networks import MASK_ID, TEXT_CONFIG, TRANSFORMER_CONFIG, build_text_encoder, build_transformer, parameter_groups
from .objective import ALL_SHARE, PAIR_ALL_SHARE, code_weights, masked_loss, sample_masks
from .progress import Log, progress_bar, step_generator
from .reading import Echo, facts
from .tokenizer import MAX_LENGTH, build_tokenizer
from .tokens import SceneTokens

LEARNING_RATE = 1e-3
_WARM_UP = 50
_EMA_DECAY = 0.998
_READING_WEIGHT = 0.2
_USUAL_MICRO = (128.0, 128.0, 0.0, 0.0, 6.0)  # width, height, crop (2), aesthetic score: what a 128x128 picture gets


def learning_rate_factor(step: int, progress: float, hold: float = 0.8, floor: float = 0.02) -> float:
    """Warm-up, constant up to `hold` of the run, then a cosine to `floor`: a run may be lengthened while it is held."""
    decay = min(1.0, max(0.0, (progress - hold) / (1 - hold)))
    return min(1.0, (step + 1) / _WARM_UP) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * decay)))


def _sharing_copy(module: nn.Module) -> nn.Module:
    """A copy with gradients of its own on the same weights."""
    twin = copy.deepcopy(module)
    for mine, other in zip(twin.parameters(), module.parameters(), strict=True):
        mine.data = other.data
    return twin


def _backward(
    transformer: nn.Module,
    text: nn.Module,
    ids: Tensor,
    micro: Tensor,
    inputs: Tensor,
    target: Tensor,
    wanted: Tensor,
    weights: Tensor,
    echo: Echo | None,
    end: int,
    bf16: bool,
) -> tuple[float, float, list[float]]:
    """Fresh gradients of the loss on one shard; text goes in as aMUSEd's pipeline puts it in.

    Returns the loss, the accuracy, and the loss of every picture.
    """
    for module in (transformer, text):
        module.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = text(ids, output_hidden_states=True)
        logits = transformer(inputs, output.hidden_states[-2], output.text_embeds, micro)
    loss, each, accuracy = masked_loss(logits, target, inputs != target, weights)
    reading = 0.0 if echo is None else echo(output.hidden_states[-2], ids, end, wanted)[0]
    (loss + _READING_WEIGHT * reading).backward()
    return float(loss.detach()), accuracy, each.tolist()


class MaskedTrainer:
    """The state of one run.

    `workers` threads share each batch (`batch` is for all of them): faster than torch's own threads, which wait for
    each other in every layer. `bf16` multiplies in bfloat16, which pays on CPUs with AVX512-BF16 or AMX.
    """

    def __init__(
        self,
        tokens: SceneTokens,
        batch: int = 24,
        seed: int = 0,
        transformer_config: dict[str, Any] = TRANSFORMER_CONFIG,
        text_config: dict[str, Any] = TEXT_CONFIG,
        mask_id: int = MASK_ID,
        workers: int = 1,
        bf16: bool = False,
    ) -> None:
        self.tokens, self.batch, self.seed, self.mask_id, self.bf16 = tokens, batch, seed, mask_id, bf16
        self.tokenizer = build_tokenizer(words())
        generator = step_generator(seed, -1)
        self.transformer = build_transformer(generator, transformer_config).train()
        self.text_encoder = build_text_encoder(self.tokenizer, generator, text_config).train()
        groups = parameter_groups(self.transformer) + [{"params": list(self.text_encoder.parameters()), "scale": 1.0}]
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
        self.ema = [parameter.detach().clone() for parameter in self.parameters]
        self.curriculum = Curriculum(len(THINGS), seed)
        self.rarity = self._rarity(transformer_config["codebook_size"])
        models = (self.transformer, self.text_encoder)
        self.copies = [models, *(tuple(map(_sharing_copy, models)) for _ in range(workers - 1))]
        self.echo: Echo | None = None
        self.workers, self.pool = workers, ThreadPoolExecutor(workers)
        self.step_count, self.seen, self.seconds = 0, 0, 0.0

    def _rarity(self, codes: int) -> Tensor:
        """Loss weights of the codes, from a thousand scenes."""
        generator = step_generator(self.seed, -3)
        scenes = [random_scene(generator) for _ in range(1000)]
        return code_weights(torch.stack([self.tokens.of(scene) for scene in scenes]), codes)

    def step(self, progress: float) -> dict[str, float]:
        """One update at `progress` (0..1) of the run; returns loss and accuracy on the masked tokens."""
        started = time.monotonic()
        generator = step_generator(self.seed, self.step_count)
        scenes = self.curriculum.draw(self.batch, self.step_count, progress, generator)
        batch = self._batch(scenes, generator)
        weights = self.rarity ** max(0.0, 1 - 2 * progress)  # even out in the first half of the run
        shards = zip(*(tensor.chunk(self.workers) for tensor in batch), strict=True)
        fixed = (weights, self.echo, self.tokenizer.eos_token_id, self.bf16)
        first, *others = [(*twin, *shard, *fixed) for twin, shard in zip(self.copies, shards, strict=True)]
        jobs = [self.pool.submit(_backward, *arguments) for arguments in others]
        losses, accuracies, each = zip(_backward(*first), *(job.result() for job in jobs), strict=True)
        self._update(learning_rate_factor(self.step_count, progress))
        self.curriculum.learn(scenes, [loss for part in each for loss in part])
        self.seen += self.batch
        self.step_count += 1
        self.seconds += time.monotonic() - started
        return {"loss": sum(losses) / len(losses), "accuracy": sum(accuracies) / len(accuracies)}

    def _batch(self, scenes: Sequence[Scene], generator: Generator) -> tuple[Tensor, ...]:
        """`(caption ids, micro-conditioning, masked tokens, right tokens, facts)`."""
        texts = [caption(scene, generator) for scene in scenes]
        target = torch.stack([self.tokens.of(scene) for scene in scenes])
        whole = [ALL_SHARE if len(scene.things) == 1 else PAIR_ALL_SHARE for scene in scenes]
        mask = sample_masks(whole, *target.shape[1:], generator)
        micro = torch.tensor(_USUAL_MICRO).repeat(len(scenes), 1)
        odd = torch.rand(len(scenes), generator=generator) < 0.1  # other sizes and scores must not break the model
        limits = torch.tensor([512.0, 512.0, 64.0, 64.0, 10.0])
        micro[odd] = (torch.rand((int(odd.sum()), 5), generator=generator) * limits).round()
        ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        wanted = torch.tensor([facts(scene) for scene in scenes])
        return ids.input_ids, micro, target.masked_fill(mask, self.mask_id), target, wanted

    def _update(self, factor: float) -> None:
        for other in self.copies[1:]:
            gradients = [p.grad for module in other for p in module.parameters() if p.grad is not None]
            own = [p.grad for module in self.copies[0] for p in module.parameters() if p.grad is not None]
            torch._foreach_add_(own, gradients)
        if self.workers > 1:
            torch._foreach_div_([p.grad for p in self.parameters if p.grad is not None], self.workers)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * factor * group["scale"]
        self.optimizer.step()
        decay = min(_EMA_DECAY, (1 + self.step_count) / (10 + self.step_count))
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.parameters, 1 - decay)

    def use_reading(self, path: Path, encoder: bool) -> None:
        """Keep the text encoder reading as `reading.py` taught it; `encoder`: take that text encoder, too."""
        tensors, _ = load_checkpoint(path)
        self.echo = Echo(len(THINGS), self.text_encoder.config.hidden_size)
        load_module("echo", self.echo, tensors)
        if encoder:
            load_module("text_encoder", self.text_encoder, tensors)
            start = len(self.parameters) - len(list(self.text_encoder.parameters()))
            self.ema[start:] = [parameter.detach().clone() for parameter in self.parameters[start:]]

    def use_ema(self) -> None:
        """Put the averaged weights into the models (for export; training cannot go on from here)."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.ema, strict=True):
                parameter.copy_(average)

    def save(self, path: Path) -> None:
        """Write everything that the run needs to go on."""
        tensors = module_tensors("transformer", self.transformer) | module_tensors("text_encoder", self.text_encoder)
        tensors |= optimizer_tensors("optimizer", self.optimizer)
        tensors |= {f"ema.{index}": average for index, average in enumerate(self.ema)}
        tensors["curriculum.losses"] = self.curriculum.losses
        meta = {"step": self.step_count, "seen": self.seen, "seconds": self.seconds, "seed": self.seed}
        save_checkpoint(path, tensors, meta)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        tensors, meta = load_checkpoint(path)
        load_module("transformer", self.transformer, tensors)
        load_module("text_encoder", self.text_encoder, tensors)
        load_optimizer("optimizer", self.optimizer, tensors)
        self.ema = [tensors[f"ema.{index}"] for index in range(len(self.ema))]
        self.step_count, self.seen = meta["step"], meta["seen"]
        self.seconds, self.seed = meta["seconds"], meta["seed"]
        self.curriculum = Curriculum(self.curriculum.total, self.seed)
        self.curriculum.losses = tensors["curriculum.losses"].clone()


def main(argv: Sequence[str] | None = None) -> None:
    """Train until `--minutes` of training time or `--steps` are reached; goes on from the checkpoint in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", required=True, type=Path, help="folder with tokens.safetensors, for checkpoint and curve"
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, help="stop after this many steps instead of --minutes")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="threads that share a batch")
    parser.add_argument("--new-reading", action="store_true", help="go on with the text encoder of `reading`")
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16 (CPUs with AVX512-BF16 or AMX)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    tokens = SceneTokens.load(args.run / "tokens.safetensors")
    trainer = MaskedTrainer(tokens, args.batch, args.seed, workers=args.workers, bf16=args.bf16)
    checkpoint, reading = args.run / "masked.safetensors", args.run / "reading.safetensors"
    if checkpoint.exists():
        trainer.load(checkpoint)
    if reading.exists():
        trainer.use_reading(reading, encoder=not checkpoint.exists() or args.new_reading)
    log = Log(args.run / "masked.csv", ("step", "seconds", "loss", "accuracy"), trainer.step_count)

    def progress() -> float:
        return trainer.step_count / args.steps if args.steps else trainer.seconds / (60 * args.minutes)

    with progress_bar("U-ViT") as bar:
        while progress() < 1:
            log.add(trainer.step_count + 1, trainer.seconds, trainer.step(progress()))
            bar(progress(), log.text())
            if trainer.step_count % 250 == 0:
                trainer.save(checkpoint)
                log.plot(args.run / "masked.png", "loss")
    trainer.save(checkpoint)
    log.plot(args.run / "masked.png", "loss")


if __name__ == "__main__":
    main()
