"""Parts of several right answers in one picture: what happens where tokens that contradict each other are decided in
the same pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import AmusedModel
from ..small_world.scenes.layout import Scene
from ..small_world.scenes.sprites import cut_out, draw
from ..small_world.scenes.things import BACKGROUNDS
from ..small_world.scenes.vague import Answers
from .features import look
from .judge import colour_votes
from .targets import encode_scenes

PART = 0.1
"""For a mixture: the share of the cells that tell an answer from another which must have its tokens, for both."""
MANY = 0.2
"""For a mixture of many: the share of the picture's things that must have tokens of answers other than the best."""
_NEAREST = 3
_MOST = 200
_BATCH = 25


def mixed(model: AmusedModel, planes: Tensor, tokens: Tensor, answers: Answers) -> Tensor:
    """Which pictures have tokens of several of `answers`, bool [B].

    Two answers: the picture has a tenth or more of the tokens that tell its best answer (that of most of its tokens)
    from another, and a tenth or more of those that tell the other from the best. These are the tokens that the VQ-GAN
    gives the true picture of one but not that of the other, where the things differ, or where there is none and the
    backgrounds differ.

    Many answers: of the cells that do not have the picture's background, those with the token of any answer there are a
    fifth of all more than those with the tokens of the best one.

    Compared are the answers nearest to the picture and to each of its quarters and, unless they are more than 200, as
    many as it takes to have every thing in every place; all on the two backgrounds that the frame has most of. For the
    empty prompt they are those with one thing.

    Args:
        model: whose VQ-GAN the tokens belong to.
        planes: float [B,3,128,128] in 0..1, the pictures.
        tokens: int64 [B,h,w], theirs.
        answers: of their prompt. A picture that is one of them is not mixed, either.
    """
    names, known = list(BACKGROUNDS), _known(model)
    result = torch.zeros(len(planes), dtype=torch.bool)
    favourites = colour_votes(planes).topk(2, 1).indices.sort(1).values
    for pair in favourites.unique(dim=0).tolist():
        scenes = candidates(answers, [names[number] for number in pair])
        if len(scenes) < 2:
            continue
        some = every_thing(scenes)
        references = torch.cat([look(draw(scenes[start : start + _BATCH])) for start in range(0, len(scenes), _BATCH)])
        for row in (favourites == torch.tensor(pair)).all(1).nonzero()[:, 0].tolist():
            rows = {*nearest(look(planes[row : row + 1]), references), *(some if len(some) <= _MOST else ())}
            result[row] = _mixed(tokens[row], known.answers([scenes[index] for index in sorted(rows)]))
    return result


def candidates(answers: Answers, backgrounds: Sequence[str]) -> list[Scene]:
    """The answers on these backgrounds, or on all where none of them is allowed; only those with one thing where there
    are answers with one and with two."""
    allowed = tuple(name for name in answers.backgrounds if name in backgrounds) or answers.backgrounds
    single = tuple(places for places in answers.placements if len(places) == 1)
    return list(Answers(answers.things, single or answers.placements, allowed).scenes())


def every_thing(scenes: Sequence[Scene]) -> list[int]:
    """Positions of some of `scenes` that show every thing in every place on every background of all."""
    seen: set[tuple[str, str, str]] = set()
    chosen = []
    for index, scene in enumerate(scenes):
        parts = {(*part, scene.background) for part in zip(scene.things, scene.places, strict=True)}
        if parts - seen:
            seen |= parts
            chosen.append(index)
    return chosen


def nearest(seen: Tensor, references: Tensor) -> list[int]:
    """The positions of the nearest of `references` [A,3,h,w] to `seen` [1,3,h,w] and to each quarter of it."""
    distance = (references - seen).square().sum(1)
    height, width = (side // 2 for side in distance.shape[1:])
    quarters = distance.unflatten(1, (2, height)).unflatten(3, (2, width)).sum((2, 4)).flatten(1)
    every = torch.cat([quarters.sum(1, keepdim=True), quarters], 1)
    return sorted(set(every.topk(min(_NEAREST, len(every)), 0, largest=False).indices.flatten().tolist()))


class _Answer(NamedTuple):
    """The tokens of an answer, int64 [h,w], its things, uint8 RGBA [4,128,128], and its background."""

    tokens: Tensor
    things: Tensor
    background: str


def _mixed(picture: Tensor, answers: Sequence[_Answer]) -> bool:
    """Whether int64 `picture` [h,w] has tokens of several answers."""
    frame = torch.ones_like(picture, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    content = picture != picture[frame].mode().values
    same = torch.stack(
        [content & (picture == one.tokens) & _cells(one.things[3] > 0, picture.shape) for one in answers]
    )
    counts = same.sum((1, 2))
    if float(same.any(0).sum() - counts.max()) >= MANY * max(1, int(content.sum())):
        return True
    whole = torch.stack([picture == one.tokens for one in answers]).sum((1, 2))
    best = answers[int(whole.argmax())]
    return any(
        min(_share(picture, best, other), _share(picture, other, best)) >= PART
        for other in answers
        if other is not best
    )


def _share(picture: Tensor, one: _Answer, other: _Answer) -> float:
    """How many of the tokens that tell `one` from `other` the picture has, 0..1."""
    size = picture.shape
    telling = _cells((one.things != other.things).any(0), size) & _cells(one.things[3] > 0, size)
    if one.background != other.background:
        telling |= ~_cells(torch.maximum(one.things[3], other.things[3]) > 0, size)
    telling &= one.tokens != other.tokens
    return float((picture == one.tokens)[telling].float().mean()) if telling.any() else 0.0


def _cells(pixels: Tensor, size: Sequence[int]) -> Tensor:
    """Which cells of a grid of `size` have a pixel that is set: bool [128,128] -> bool [h,w]."""
    return F.adaptive_max_pool2d(pixels[None].float(), tuple(size))[0] > 0


@lru_cache(maxsize=1)
def _known(model: AmusedModel) -> _Known:
    return _Known(model)


class _Known:
    """The answers of scenes, each encoded once."""

    def __init__(self, model: AmusedModel) -> None:
        self.model = model
        self.stored: dict[Scene, _Answer] = {}

    def answers(self, scenes: Sequence[Scene]) -> list[_Answer]:
        new = [scene for scene in scenes if scene not in self.stored]
        if new:
            for scene, grid in zip(new, encode_scenes(self.model, new)[2], strict=True):
                self.stored[scene] = _Answer(grid, cut_out(scene), scene.background)
        return [self.stored[scene] for scene in scenes]
