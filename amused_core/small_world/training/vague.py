"""Teach a trained model vague prompts: go on from its weights with captions that have several right answers.

A sixth of the examples stay those of `masked`. The others are vague captions (`scenes/vague.py`), each with one of its
right answers, drawn anew every time: the model learns that all of them are equally likely. To go on with one of them,
it has to name a thing from some of its tokens, which nothing asked for before: `probe.py` teaches it, for few things
first. Vocabulary, VQ-GAN and the tokens of the scenes stay the same.

python -m amused_core.small_world.training.vague --run RUN --model FOLDER [--minutes 60 | --steps N]     start or go on

RUN/tokens.safetensors holds the tokens that the model was trained on (`tokens`, or `recover`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from ...files.training_state import load_modules, load_state, module_tensors, save_state
from ...sampling.step_generator import step_generator
from ..scenes.captions import caption, plain_caption
from ..scenes.layout import Scene
from ..scenes.things import THINGS
from ..scenes.vague import vague_caption
from .curriculum import things_in_play
from .masked import Example, MaskedTrainer, learning_rate_factor
from .objective import ALL_SHARE, PAIR_ALL_SHARE
from .progress import TrainingLog, parse_options, train
from .text_encoder import tokenize
from .tokens import SceneTokens

LEARNING_RATE = 1e-3
_HOLD = 0.62
_VAGUE_SHARE = 5 / 6
_OPEN_SHARE = 0.5  # of the vague captions that name every thing, how many are passed over for one that does not
_WHOLE = (0.08, 0.25)  # how often a picture is wholly masked, which teaches how to begin; the second from `_LATE` on
_LATE = 0.85
_NOISE = 0.4
_PROBE_LAYERS = 2
_TRIES = 20  # answers drawn for a caption before another is taken: early on, few are in play


class KeptText(nn.Module):
    """The distance of the text encoder's output from that of the model that training began with, except on vague
    captions, in units of its variance. It has the arguments of `PaddingLoss`."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.before = copy.deepcopy(encoder).eval().requires_grad_(False)

    def forward(self, hidden: Tensor, ids: Tensor, end: int, order: Tensor) -> tuple[Tensor, float]:
        """The loss; the second value is there for the sake of `PaddingLoss`, 0."""
        clear = order[:, 0] >= 0
        if not clear.any():
            return hidden.new_zeros(()), 0.0
        with torch.no_grad():
            old = self.before(ids[clear], output_hidden_states=True).hidden_states[-2].float()
        return F.mse_loss(hidden[clear].float(), old) / old.var(), 0.0


class VagueTrainer(MaskedTrainer):
    """A run of `masked` that begins with the weights in `folder`, a model in diffusers' layout."""

    learning_rate = LEARNING_RATE

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options, probe_layers=_PROBE_LAYERS)

    def start_from(self, folder: Path) -> None:
        """Take the weights; the averaged ones begin with them."""
        self.transformer.load_state_dict(load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors"))
        self.text_encoder.load_state_dict(load_file(folder / "text_encoder" / "model.safetensors"))
        self.padding_loss = KeptText(self.text_encoder)  # type: ignore[assignment]
        self.reset_average()

    def reset_average(self) -> None:
        """Let the averaged weights be those of the moment."""
        self.ema = [parameter.detach().clone() for parameter in self.parameters]

    def evenness(self, progress: float) -> float:
        """None: what is frequent was learnt before."""
        return 0.0

    def factor(self, progress: float) -> float:
        """Warm-up, constant for the first part of the run, then a cosine."""
        return learning_rate_factor(self.step_count, progress, _HOLD)

    def draw(self, progress: float, generator: Generator) -> list[Example]:
        """A part of the batch from the curriculum as it is at the end of `masked`, the rest with vague captions."""
        vague = round(self.batch * _VAGUE_SHARE)
        scenes = self.curriculum.draw(self.batch - vague, 1_000_000, 1.0, generator)
        examples = [
            Example(scene, caption(scene, generator, 0.0), ALL_SHARE if len(scene.things) == 1 else PAIR_ALL_SHARE)
            for scene in scenes
        ]
        for _ in range(vague):
            text, scene = self.draw_vague(generator)
            examples.append(Example(scene, text, _WHOLE[progress > _LATE], clear=False))
        return [examples[i] for i in torch.randperm(len(examples), generator=generator)]

    def draw_vague(self, generator: Generator) -> tuple[str, Scene]:
        """A vague caption and one of its answers, of the things in play where the caption does not name them."""
        active = self.curriculum.order[: things_in_play(self.step_count, len(THINGS), first=12, hold=0)].tolist()
        names = {THINGS[index].name for index in active}
        while True:
            text, answers = vague_caption(generator, _NOISE)
            named = all(len(options) == 1 for options in answers.things)
            if named and float(torch.rand((), generator=generator)) < _OPEN_SHARE:
                continue
            for _ in range(_TRIES):
                scene = answers.draw(generator)
                choices = zip(scene.things, answers.things, strict=False)
                if all(name in names or len(options) == 1 for name, options in choices):
                    return text, scene


def teach_text_encoder(trainer: VagueTrainer, steps: int, batch: int = 64) -> None:
    """Give the text encoder a start, in place: on vague captions, the padding of one of the right answers (so, in the
    mean, of all of them); on others, what it gave before."""
    encoder, before = trainer.text_encoder, copy.deepcopy(trainer.text_encoder).eval()
    optimizer = torch.optim.AdamW(encoder.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02)
    for step in range(steps):
        generator = step_generator(trainer.seed + 9, step)
        loss = _text_loss(encoder, before, trainer.tokenizer, trainer.curriculum, batch, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50, 2 * (steps - step) / steps)
        optimizer.step()
        if step % 25 == 24:
            print(f"text encoder: step {step + 1} of {steps}, loss {float(loss.detach()):.3f}", flush=True)
    trainer.reset_average()


def _text_loss(
    encoder: nn.Module, before: nn.Module, tokenizer: Any, curriculum: Any, batch: int, generator: Generator
) -> Tensor:
    clear = [caption(s, generator, 0.0) for s in curriculum.draw(batch // 2, 1_000_000, 1.0, generator)]
    pairs = [vague_caption(generator, _NOISE) for _ in range(batch // 2)]
    vague = [text for text, _ in pairs]
    meant = [plain_caption(answers.draw(generator)) if text else "" for text, answers in pairs]
    ids, right = tokenize(tokenizer, clear + vague), tokenize(tokenizer, clear + meant)
    output = encoder(ids, output_hidden_states=True)
    with torch.no_grad():
        old = before(right, output_hidden_states=True)
    end = tokenizer.eos_token_id
    counts = (ids == end) & (right == end)
    counts[: len(clear)] = True
    hidden, target = output.hidden_states[-2][counts], old.hidden_states[-2][counts]
    pooled = F.mse_loss(output.text_embeds, old.text_embeds) / old.text_embeds.var()
    return F.mse_loss(hidden, target) / target.var() + pooled


def main(argv: Sequence[str] | None = None) -> None:
    """Train until `--minutes` of training time or `--steps` are reached; goes on from the checkpoint in the folder."""
    args = parse_options(
        __doc__,
        argv,
        60,
        model={"type": Path, "required": True, "help": "folder in diffusers' layout to begin with"},
        text_steps={"type": int, "default": 300, "help": "steps of the text encoder alone, before"},
        batch={"type": int, "default": 24},
        workers={"type": int, "default": 2, "help": "threads that share a batch"},
        bf16={"action": "store_true", "help": "multiply in bfloat16 (CPUs with AVX512-BF16 or AMX)"},
        save_every={"type": int, "default": 100, "help": "steps between checkpoints"},
    )
    torch.set_num_threads(1)
    tokens = SceneTokens.load(args.run / "tokens.safetensors")
    trainer = VagueTrainer(tokens, batch=args.batch, seed=args.seed, workers=args.workers, bf16=args.bf16)
    trainer.start_from(args.model)
    checkpoint, text = args.run / "vague.safetensors", args.run / "text.safetensors"
    if checkpoint.exists():
        trainer.load(checkpoint)
    elif text.exists():
        load_modules(load_state(text)[0], text_encoder=trainer.text_encoder)
        trainer.reset_average()
    else:
        teach_text_encoder(trainer, args.text_steps)
        save_state(text, module_tensors(text_encoder=trainer.text_encoder), {"steps": args.text_steps})
    log = TrainingLog(args.run / "vague.csv", ("step", "seconds", "loss", "accuracy", "vague"), trainer.step_count, 10)

    def save() -> None:
        trainer.save(checkpoint)
        log.plot(args.run / "vague.png", "loss")

    train(trainer, log, args, save, args.save_every)


if __name__ == "__main__":
    main()
