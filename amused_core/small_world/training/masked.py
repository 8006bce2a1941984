"""Train the U-ViT and the text encoder on cached tokens.

python -m amused_core.small_world.training.masked --run RUN [--minutes 60 | --steps N]     start or go on
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from ...files import training_state
from ...sampling.step_generator import step_generator
from ..scenes.captions import caption, words
from ..scenes.layout import Scene
from ..scenes.splits import random_scene
from ..scenes.things import THINGS
from .curriculum import Curriculum
from .gradients import Batch, Networks, Objective
from .networks import ModelConfig, build_text_encoder, build_transformer, parameter_groups
from .objective import ALL_SHARE, PAIR_ALL_SHARE, code_weights, sample_masks
from .probe import ThingProbe, things_in_cells
from .progress import TrainingLog, parse_options, train
from .text_encoder import PaddingLoss, ordered_things
from .tokenizer import MAX_LENGTH, build_tokenizer
from .tokens import SceneTokens

LEARNING_RATE = 1e-3
_WARM_UP = 50
_EMA_DECAY = 0.998
_PROBE_SCALE = 3.0  # of the learning rate
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


class Example(NamedTuple):
    """One picture to train on: its scene, its caption, how often it is wholly masked (0..1), and whether the caption
    names its things."""

    scene: Scene
    text: str
    whole: float
    clear: bool = True


class MaskedTrainer:
    """The state of one run.

    `workers` threads share each batch (`batch` is for all of them): faster than torch's own threads, which wait for
    each other in every layer. `bf16` multiplies in bfloat16, which pays on CPUs with AVX512-BF16 or AMX.
    `probe_layers`: how many layers of the trunk a `ThingProbe` is on; 0 for none.
    """

    learning_rate = LEARNING_RATE

    def __init__(
        self,
        tokens: SceneTokens,
        config: ModelConfig = ModelConfig(),  # noqa: B008 (frozen)
        *,
        batch: int = 24,
        seed: int = 0,
        workers: int = 1,
        bf16: bool = False,
        probe_layers: int = 0,
    ) -> None:
        self.tokens, self.config, self.batch, self.seed, self.bf16 = tokens, config, batch, seed, bf16
        self.tokenizer = build_tokenizer(words())
        generator = step_generator(seed, -1)
        self.transformer = build_transformer(generator, config.transformer).train()
        self.text_encoder = build_text_encoder(self.tokenizer, generator, config.text_encoder).train()
        groups = parameter_groups(self.transformer) + [{"params": list(self.text_encoder.parameters()), "scale": 1.0}]
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
        self.ema = [parameter.detach().clone() for parameter in self.parameters]
        self.curriculum = Curriculum(len(THINGS), seed)
        self.rarity = self._rarity(config.transformer["codebook_size"])
        layers = min(probe_layers, config.transformer["num_hidden_layers"])
        self.probe = ThingProbe(len(THINGS), config.transformer["hidden_size"], layers) if layers else None
        if self.probe:
            self.optimizer.add_param_group({"params": list(self.probe.parameters()), "scale": _PROBE_SCALE})
        networks = Networks(self.transformer, self.text_encoder, self.probe)
        self.copies = [networks, *(Networks(*map(_sharing_copy, networks.modules())) for _ in range(workers - 1))]
        self.padding_loss: PaddingLoss | None = None
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
        examples = self.draw(progress, generator)
        batch = self._batch(examples, generator)
        weights = self.rarity ** self.evenness(progress)
        objective = Objective(weights, self.padding_loss, self.tokenizer.eos_token_id, self.bf16)
        first, *others = zip(self.copies, batch.split(self.workers), strict=True)
        futures = [self.pool.submit(objective.backward, *shard) for shard in others]
        results = [objective.backward(*first), *(future.result() for future in futures)]
        losses, accuracies, each = zip(*results, strict=True)
        self._update(self.factor(progress))
        each = [loss for part in each for loss in part]
        clear = [(example.scene, loss) for example, loss in zip(examples, each, strict=True) if example.clear]
        self.curriculum.learn(*zip(*clear, strict=True))
        self.seen += self.batch
        self.step_count += 1
        self.seconds += time.monotonic() - started
        vague = [loss for example, loss in zip(examples, each, strict=True) if not example.clear]
        return {
            "loss": sum(losses) / len(losses),
            "accuracy": sum(accuracies) / len(accuracies),
            "vague": sum(vague) / max(1, len(vague)),
        }

    def evenness(self, progress: float) -> float:
        """How far frequent codes count less, 0..1: in the first half of the run, codes are evened out."""
        return max(0.0, 1 - 2 * progress)

    def factor(self, progress: float) -> float:
        """Learning rate at `progress` of the run, in units of `learning_rate`."""
        return learning_rate_factor(self.step_count, progress)

    def draw(self, progress: float, generator: Generator) -> list[Example]:
        """The examples of one step."""
        scenes = self.curriculum.draw(self.batch, self.step_count, progress, generator)
        return [
            Example(scene, caption(scene, generator), ALL_SHARE if len(scene.things) == 1 else PAIR_ALL_SHARE)
            for scene in scenes
        ]

    def _batch(self, examples: Sequence[Example], generator: Generator) -> Batch:
        scenes = [example.scene for example in examples]
        texts = [example.text for example in examples]
        target = torch.stack([self.tokens.of(scene) for scene in scenes])
        mask = sample_masks([example.whole for example in examples], *target.shape[1:], generator)
        micro = torch.tensor(_USUAL_MICRO).repeat(len(scenes), 1)
        odd = torch.rand(len(scenes), generator=generator) < 0.1  # other sizes and scores must not break the model
        limits = torch.tensor([512.0, 512.0, 64.0, 64.0, 10.0])
        micro[odd] = (torch.rand((int(odd.sum()), 5), generator=generator) * limits).round()
        ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        order = torch.tensor([ordered_things(example.scene) if example.clear else [-1, -1] for example in examples])
        things = torch.stack([things_in_cells(scene) for scene in scenes])
        return Batch(ids.input_ids, micro, target.masked_fill(mask, self.config.mask_id), target, order, things)

    def _update(self, factor: float) -> None:
        total = self.copies[0].gradients()
        for other in self.copies[1:]:
            torch._foreach_add_(total, other.gradients())
        if self.workers > 1:
            torch._foreach_div_(total, self.workers)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor * group["scale"]
        self.optimizer.step()
        decay = min(_EMA_DECAY, (1 + self.step_count) / (10 + self.step_count))
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.parameters, 1 - decay)

    def use_reading(self, path: Path, encoder: bool) -> None:
        """Keep the padding as `text_encoder.py` trained it; `encoder`: take that text encoder, too."""
        tensors, _ = training_state.load_state(path)
        self.padding_loss = PaddingLoss(len(THINGS), self.text_encoder.config.hidden_size)
        training_state.load_modules(tensors, echo=self.padding_loss)
        if encoder:
            training_state.load_modules(tensors, text_encoder=self.text_encoder)
            start = len(self.parameters) - len(list(self.text_encoder.parameters()))
            self.ema[start:] = [parameter.detach().clone() for parameter in self.parameters[start:]]

    def use_ema(self) -> None:
        """Put the averaged weights into the models (for export; training cannot go on from here)."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.ema, strict=True):
                parameter.copy_(average)

    def _saved(self) -> dict[str, nn.Module]:
        return {name: module for name, module in self.copies[0]._asdict().items() if module is not None}

    def save(self, path: Path) -> None:
        """Write everything that the run needs to go on."""
        tensors = training_state.module_tensors(**self._saved())
        tensors |= training_state.optimizer_state(self.optimizer)[0]
        tensors |= training_state.add_prefix("ema", self.ema)
        tensors["curriculum.losses"] = self.curriculum.losses
        meta = {"step": self.step_count, "seen": self.seen, "seconds": self.seconds, "seed": self.seed}
        training_state.save_state(path, tensors, meta)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        tensors, meta = training_state.load_state(path)
        training_state.load_modules(tensors, **self._saved())
        training_state.restore_optimizer(self.optimizer, tensors)
        self.ema = [tensors[f"ema.{index}"] for index in range(len(self.ema))]
        self.step_count, self.seen = meta["step"], meta["seen"]
        self.seconds, self.seed = meta["seconds"], meta["seed"]
        self.curriculum = Curriculum(self.curriculum.total, self.seed)
        self.curriculum.losses = tensors["curriculum.losses"].clone()


def main(argv: Sequence[str] | None = None) -> None:
    """Train until `--minutes` of training time or `--steps` are reached; goes on from the checkpoint in the folder."""
    args = parse_options(
        __doc__,
        argv,
        60,
        batch={"type": int, "default": 24},
        workers={"type": int, "default": 2, "help": "threads that share a batch"},
        new_reading={"action": "store_true", "help": "go on with the text encoder of `text_encoder`"},
        bf16={"action": "store_true", "help": "multiply in bfloat16 (CPUs with AVX512-BF16 or AMX)"},
    )
    torch.set_num_threads(1)
    tokens = SceneTokens.load(args.run / "tokens.safetensors")
    trainer = MaskedTrainer(tokens, batch=args.batch, seed=args.seed, workers=args.workers, bf16=args.bf16)
    checkpoint, reading = args.run / "masked.safetensors", args.run / "reading.safetensors"
    if checkpoint.exists():
        trainer.load(checkpoint)
    if reading.exists():
        trainer.use_reading(reading, encoder=not checkpoint.exists() or args.new_reading)
    log = TrainingLog(args.run / "masked.csv", ("step", "seconds", "loss", "accuracy"), trainer.step_count)

    def save() -> None:
        trainer.save(checkpoint)
        log.plot(args.run / "masked.png", "loss")

    train(trainer, log, args, save, 250)


if __name__ == "__main__":
    main()
