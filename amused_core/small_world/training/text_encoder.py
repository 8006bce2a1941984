"""Pretrain the text encoder to tell which thing goes where.

U-ViT and text encoder alone learn from pictures which two things a caption names, but not which is left: that stays at
"one of the two" for thousands of steps. Captions without pictures teach it in minutes. Everything behind the last word
is padding, which the U-ViT sees like any other word; the padding is made to repeat, in turn, the noun of what is left
(or above) and of what is right (or below), each with a mark of its own: constant vectors that attention finds easily.

python -m amused_core.small_world.training.text_encoder --run RUN [--steps 1500]     before `masked`, or in between
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...files.training_state import load_modules, load_state, module_tensors, save_state
from ...sampling.step_generator import step_generator
from ..scenes.captions import caption, with_article
from ..scenes.layout import Scene
from ..scenes.splits import held_out, random_scene
from ..scenes.sprites import thing_index
from ..scenes.things import THINGS
from .curriculum import reading_order
from .progress import TrainingLog, progress_bar

LEARNING_RATE = 1e-3


def ordered_things(scene: Scene) -> list[int]:
    """Numbers of the first and the second thing in reading order; a single thing has no second (-1)."""
    numbers = [thing_index(name) for name in reading_order(scene).things]
    return numbers if len(numbers) == 2 else [numbers[0], -1]


class PaddingLoss(nn.Module):
    """The distance of the padding from its target: the noun of a thing plus a mark for first, second, or alone.

    `nouns` [T,D]: hidden state of each noun in the text encoder that was there at the start. `marks` [3,D].
    """

    def __init__(self, things: int, width: int) -> None:
        super().__init__()
        self.register_buffer("nouns", torch.zeros(things, width))
        self.register_buffer("marks", torch.zeros(3, width))

    @torch.no_grad()
    def start(self, encoder: nn.Module, tokenizer: Any, generator: torch.Generator) -> None:
        """Take the nouns from `encoder`, and random marks as long as they are."""
        texts = [with_article(thing) for thing in THINGS]
        ids = tokenize(tokenizer, texts)
        last = (ids != tokenizer.eos_token_id).sum(1) - 1
        hidden = encoder(ids, output_hidden_states=True).hidden_states[-2]
        self.nouns.copy_(hidden[torch.arange(len(texts)), last])
        marks = torch.randn(self.marks.shape, generator=generator)
        self.marks.copy_(F.normalize(marks, dim=1) * self.nouns.norm(dim=1).mean())

    def forward(self, hidden: Tensor, ids: Tensor, end: int, order: Tensor) -> tuple[Tensor, float]:
        """Mean square distance of the padding from its target, in units of the nouns' variance; and how often
        its nearest noun is the right one.

        Args:
            hidden: [B,L,D], what the U-ViT gets.
            ids: int64 [B,L]; from the first `end` on it is padding. Captions without words do not count.
            end: id of the end token, which also pads.
            order: int64 [B,2], the `ordered_things` of each scene.
        """
        first, second = order.T
        alone = second < 0
        second = torch.where(alone, first, second)
        marks = torch.where(alone[:, None], torch.tensor([[2, 2]]), torch.tensor([[0, 1]]))
        numbers = torch.stack([first, second], 1)
        turn = torch.arange(ids.shape[1]) % 2
        padding = (ids == end) & (ids[:, 1:2] != end)
        states = hidden.float()[padding]
        mark, right = self.marks[marks[:, turn]][padding], numbers[:, turn][padding]
        nearest = torch.cdist((states - mark).detach(), self.nouns).argmin(1)
        loss = F.mse_loss(states, self.nouns[right] + mark) / self.nouns.var()
        return loss, float((nearest == right).float().mean())


def tokenize(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Ids int64 [B,L] of `texts`, padded to the tokenizer's length."""
    length = tokenizer.model_max_length
    return tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    ).input_ids


def draw_scenes(count: int, generator: torch.Generator) -> list[Scene]:
    """Random scenes, two in three with two things, none held out."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(generator, 0.2, 0.15)
        if not held_out(scene):
            scenes.append(scene)
    return scenes


class TextEncoderTrainer:
    """Trains `encoder` in place. What words and the pooled embedding say must stay as they were, so that a U-ViT that
    has learnt them goes on from there."""

    def __init__(self, encoder: nn.Module, tokenizer: Any, seed: int = 0, keep: float = 0.0) -> None:
        self.encoder, self.tokenizer, self.seed, self.keep = encoder, tokenizer, seed, keep
        self.before = copy.deepcopy(encoder).eval()
        self.padding_loss = PaddingLoss(len(THINGS), encoder.config.hidden_size)
        self.padding_loss.start(self.before, tokenizer, step_generator(seed, -6))
        self.optimizer = torch.optim.AdamW(encoder.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02)

    def step(self, step: int, steps: int, batch: int) -> dict[str, float]:
        """One update; returns the loss and how often the padding has the right noun."""
        generator = step_generator(self.seed + 5, step)
        scenes = draw_scenes(batch, generator)
        ids = tokenize(self.tokenizer, [caption(scene, generator, dropout=0.0) for scene in scenes])
        end = self.tokenizer.eos_token_id
        output = self.encoder(ids, output_hidden_states=True)
        hidden = output.hidden_states[-2]
        loss, accuracy = self.padding_loss(hidden, ids, end, torch.tensor([ordered_things(scene) for scene in scenes]))
        if self.keep:
            with torch.no_grad():
                old = self.before(ids, output_hidden_states=True)
            words = ids != end
            drift = F.mse_loss(hidden[words], old.hidden_states[-2][words]) / old.hidden_states[-2][words].var()
            drift = drift + F.mse_loss(output.text_embeds, old.text_embeds) / old.text_embeds.var()
            loss = loss + self.keep * drift
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50, 2 * (steps - step) / steps)
        self.optimizer.step()
        return {"loss": float(loss.detach()), "accuracy": accuracy}


def main(argv: Sequence[str] | None = None) -> None:
    """Write RUN/reading.safetensors: a text encoder for `masked` to start with."""
    from ..scenes.captions import words
    from .networks import build_text_encoder
    from .tokenizer import build_tokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    tokenizer = build_tokenizer(words())
    encoder = build_text_encoder(tokenizer, step_generator(args.seed, -4))
    masked = args.run / "masked.safetensors"
    if masked.exists():
        load_modules(load_state(masked)[0], text_encoder=encoder)
    trainer = TextEncoderTrainer(encoder, tokenizer, args.seed, keep=1.0 if masked.exists() else 0.0)
    checkpoint = args.run / "reading.safetensors"
    if checkpoint.exists():
        tensors, _ = load_state(checkpoint)
        load_modules(tensors, text_encoder=encoder, echo=trainer.padding_loss)
    log = TrainingLog(args.run / "reading.csv", ("step", "seconds", "loss", "accuracy"), 0)
    started = time.monotonic()
    with progress_bar("reading") as bar:
        for step in range(args.steps):
            log.add(step + 1, time.monotonic() - started, trainer.step(step, args.steps, args.batch))
            bar((step + 1) / args.steps, log.text())
    tensors = module_tensors(text_encoder=encoder, echo=trainer.padding_loss)
    save_state(checkpoint, tensors, {"steps": args.steps})
    log.plot(args.run / "reading.png", "accuracy")


if __name__ == "__main__":
    main()
