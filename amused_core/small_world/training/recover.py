"""Recover the tokens that a trained model was trained on, where only the model is left.

The encoder does not give them back: `refine` taught it to, but it agrees in little more than half of the cells. The
U-ViT knows them by heart. Every thing is asked for on two backgrounds or in two corners, first with all tokens masked,
then with the surer half of the answer known.

python -m amused_core.small_world.training.recover --run RUN --model FOLDER     writes RUN/tokens.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...model import AmusedModel, load_model
from ..scenes.captions import plain_caption
from ..scenes.layout import CELL, LARGE_SIDE, PLACES, SMALL_SIDE, WHOLE, Scene
from ..scenes.splits import held_out
from ..scenes.sprites import sprites
from ..scenes.things import BACKGROUNDS, THINGS
from .tokens import EMPTY, GRID, SceneTokens
from .vq_data import flat_cells

_BATCH = 43
_LARGE, _SMALL = (WHOLE, WHOLE), ("top left", "bottom right")


def _scene(number: int, place: str, turn: int) -> Scene:
    """Thing `number` on one of the backgrounds that training shows it on."""
    name = THINGS[number].name
    known = [colour for colour in BACKGROUNDS if not held_out(Scene.single(name, colour, place))]
    return Scene.single(name, known[(number + 4 * turn) % len(known)], place)


@torch.no_grad()
def thing_tokens(model: AmusedModel, numbers: Sequence[int], places: Sequence[str]) -> Tensor:
    """The likeliest tokens of things `numbers` in `places`, which must be of one size: int64 `[N, side, side]`."""
    codes, mask = model.vq.codebook_size, model.checkpoint.mask_token_id
    best, sure = torch.zeros(()), None
    for _ in range(2):
        total = torch.zeros(())
        for turn, name in enumerate(places):
            place = PLACES[name]
            top, left, side = place.top // CELL, place.left // CELL, place.side // CELL
            window = (..., slice(top, top + side), slice(left, left + side))
            grid = torch.full((len(numbers), GRID, GRID), mask)
            if sure is not None:
                grid[window] = torch.where(sure, best, mask)
            logits = _logits(model, [_scene(number, name, turn) for number in numbers], grid)
            total = total + logits[:, :codes].log_softmax(1)[window]
        second = total.argmax(1)
        best = second if sure is None else torch.where(sure, best, second)
        first, next_ = total.topk(2, 1).values.unbind(1)
        margin = first - next_
        sure = margin >= margin.flatten(1).median(1).values[:, None, None]
    return best


def flat_tokens(model: AmusedModel) -> Tensor:
    """The likeliest token of each background: int64 `[backgrounds]`, from the corners of pictures of three things."""
    total = torch.zeros(len(BACKGROUNDS), model.vq.codebook_size)
    names = list(BACKGROUNDS)
    for thing in THINGS[:3]:
        scenes = [Scene.single(thing.name, colour) for colour in names]
        scenes = [scene for scene in scenes if not held_out(scene)]
        mask = torch.full((len(scenes), GRID, GRID), model.checkpoint.mask_token_id)
        logits = _logits(model, scenes, mask)[:, : total.shape[1], 0, 0].log_softmax(1)
        for scene, row in zip(scenes, logits, strict=True):
            total[names.index(scene.background)] += row
    return total.argmax(1)


@torch.no_grad()
def _logits(model: AmusedModel, scenes: Sequence[Scene], grid: Tensor) -> Tensor:
    """What the U-ViT says of `grid`, asked for `scenes` in plain words: float `[B, K, h, w]`."""
    text = model.text.encode([plain_caption(scene) for scene in scenes])
    micro = torch.tensor((128.0, 128.0, 0.0, 0.0, 6.0)).repeat(len(scenes), 1)
    return model.transformer(grid, text.hidden, text.pooled, micro).float()


def recover_tokens(model: AmusedModel) -> SceneTokens:
    """The tables that `model` was trained on."""
    tables = []
    for places, side in ((_LARGE, LARGE_SIDE), (_SMALL, SMALL_SIDE)):
        groups = torch.arange(len(THINGS)).split(_BATCH)
        tokens = torch.cat([thing_tokens(model, group.tolist(), places) for group in groups])
        tables.append(tokens.masked_fill(flat_cells(sprites()[side])[:, 0], EMPTY))
    return SceneTokens(*tables, flat_tokens(model))


def main(argv: Sequence[str] | None = None) -> None:
    """Write RUN/tokens.safetensors from a model in diffusers' layout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--model", required=True, type=Path)
    args = parser.parse_args(argv)
    args.run.mkdir(parents=True, exist_ok=True)
    recover_tokens(load_model(args.model)).save(args.run / "tokens.safetensors")


if __name__ == "__main__":
    main()
