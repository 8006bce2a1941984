"""Teach the text encoder to read: which thing goes where, and on which background.

U-ViT and text encoder alone learn from pictures which two things a caption names, but not which is left: that stays at
"one of the two" for thousands of steps. Captions without pictures teach it in minutes. Everything behind the last word
is padding, which the U-ViT sees like any other word; the padding is made to say, in turn, what is left (or above, or
alone), what is right (or below), the background, and the layout. The read-outs are thrown away afterwards.

python -m amused_core.training.reading --run RUN [--steps 3000]     before `masked`, or between two parts of it
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..scenes.captions import caption
from ..scenes.layout import CORNERS, RELATIONS, WHOLE, Scene
from ..scenes.splits import held_out, random_scene
from ..scenes.sprites import thing_index
from ..scenes.things import BACKGROUNDS, THINGS
from .checkpoints import load_checkpoint, load_module, module_tensors, save_checkpoint
from .progress import Log, progress_bar, step_generator

LAYOUTS = ((WHOLE,), *((corner,) for corner in CORNERS), RELATIONS["left of"], RELATIONS["above"])
LEARNING_RATE = 1e-3


def facts(scene: Scene) -> list[int]:
    """Numbers of the first thing in reading order, the second (the number of things where there is none), the
    background and the layout."""
    things, places = [thing_index(name) for name in scene.things], scene.places
    if places not in LAYOUTS:
        things, places = things[::-1], places[::-1]
    return [things[0], things[1] if len(things) == 2 else len(THINGS), list(BACKGROUNDS).index(scene.background),
            LAYOUTS.index(places)]  # fmt: skip


class ReadOuts(nn.Module):
    """Linear read-outs of the facts from the hidden states of the padding. Not part of the model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (len(THINGS), len(THINGS) + 1, len(BACKGROUNDS), len(LAYOUTS))
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in sizes)

    def forward(self, hidden: Tensor, ids: Tensor, end: int, wanted: Tensor) -> tuple[Tensor, list[float]]:
        """Loss and the accuracy of each fact.

        Args:
            hidden: [B,L,D], what the U-ViT gets.
            ids: int64 [B,L]; from the first `end` on it is padding. Captions without words do not count.
            end: id of the end token, which also pads.
            wanted: int64 [B,4], the `facts` of each scene.
        """
        padding = (ids == end) & (ids[:, 1:2] != end)
        turn = torch.arange(ids.shape[1]).expand_as(ids) % len(self.heads)
        losses, accuracies = [], []
        for number, head in enumerate(self.heads):
            where = padding & (turn == number)
            logits = head(hidden[where].float())
            right = wanted[:, number : number + 1].expand_as(ids)[where]
            losses.append(F.cross_entropy(logits, right))
            accuracies.append(float((logits.argmax(1) == right).float().mean()))
        return torch.stack(losses).sum(), accuracies


def draw_scenes(count: int, generator: torch.Generator) -> list[Scene]:
    """Scenes to read about, two in three with two things, none held out."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(generator, 0.2, 0.15)
        if not held_out(scene):
            scenes.append(scene)
    return scenes


class Reader:
    """Trains `encoder` in place. What words and the pooled embedding say must stay as they were, so that a U-ViT that
    has learnt them goes on from there."""

    def __init__(self, encoder: nn.Module, tokenizer: object, seed: int = 0, keep: float = 0.0) -> None:
        self.encoder, self.tokenizer, self.seed, self.keep = encoder, tokenizer, seed, keep
        self.before = copy.deepcopy(encoder).eval()
        self.read_outs = ReadOuts(encoder.config.hidden_size)
        parameters = [*encoder.parameters(), *self.read_outs.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02)

    def step(self, step: int, steps: int, batch: int) -> dict[str, float]:
        """One update; returns the loss and the accuracy of the two things."""
        generator = step_generator(self.seed + 5, step)
        scenes = draw_scenes(batch, generator)
        texts = [caption(scene, generator, dropout=0.0) for scene in scenes]
        length, end = self.tokenizer.model_max_length, self.tokenizer.eos_token_id
        ids = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids
        output = self.encoder(ids, output_hidden_states=True)
        hidden = output.hidden_states[-2]
        wanted = torch.tensor([facts(scene) for scene in scenes])
        loss, accuracies = self.read_outs(hidden, ids, end, wanted)
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
        return {"loss": float(loss.detach()), "first": accuracies[0], "second": accuracies[1]}


def main(argv: Sequence[str] | None = None) -> None:
    """Write RUN/reading.safetensors: a text encoder for `masked` to start with."""
    from ..scenes.captions import words
    from .networks import build_text_encoder
    from .tokenizer import build_tokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    tokenizer = build_tokenizer(words())
    encoder = build_text_encoder(tokenizer, step_generator(args.seed, -4))
    begun = args.run / "masked.safetensors"
    if begun.exists():
        load_module("text_encoder", encoder, load_checkpoint(begun)[0])
    reader = Reader(encoder, tokenizer, args.seed, keep=1.0 if begun.exists() else 0.0)
    log = Log(args.run / "reading.csv", ("step", "seconds", "loss", "first", "second"), 0)
    started = time.monotonic()
    with progress_bar("reading") as bar:
        for step in range(args.steps):
            log.add(step + 1, time.monotonic() - started, reader.step(step, args.steps, args.batch))
            bar((step + 1) / args.steps, log.text())
    tensors = module_tensors("text_encoder", encoder) | module_tensors("read_outs", reader.read_outs)
    save_checkpoint(args.run / "reading.safetensors", tensors, {"steps": args.steps})
    log.plot(args.run / "reading.png", "first")


if __name__ == "__main__":
    main()
