"""The judge's own error with vague prompts: pictures made of one right answer, of several and of none."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..model import AmusedModel
from .metrics import Number, rate
from .questions import QUESTIONS, Question
from .targets import decode_tokens, encode_scenes
from .vague_task import judge_answers

_MOST, _MANY = 96, 12
_BUT_EMPTY = tuple(question for question in QUESTIONS if question.text)


def mixture_error(model: AmusedModel, count: int, seed: int = 0) -> dict[str, dict[str, Number]]:
    """The shares of `valid` and `mixed` among pictures of known content, at most 96 of each kind."""
    generator = Generator()
    generator.manual_seed(seed)
    asked = [_BUT_EMPTY[number % len(_BUT_EMPTY)] for number in range(min(count, _MOST))]
    grids = torch.stack([_several(model, question, generator) for question in asked], 1)
    one, other = grids[:2]
    shape = one.shape
    below = torch.arange(shape[1])[None, :, None] >= shape[1] // 2
    choice = torch.randint(_MANY, (1, *shape), generator=generator)
    random = torch.randint(model.vq.codebook_size, shape, generator=generator)
    kinds = {
        "one answer": one,
        "halves of two answers": torch.where(below, other, one),
        "scattered tokens of two answers": torch.where(choice[0] % 2 == 0, other, one),
        f"scattered tokens of {_MANY} answers": grids.gather(0, choice)[0],
        "one answer, half of it random tokens": torch.where(choice[0] % 2 == 0, random, one),
        "random tokens": random,
    }
    return {name: _rates(model, tokens, asked) for name, tokens in kinds.items()}


def _several(model: AmusedModel, question: Question, generator: Generator) -> Tensor:
    """The tokens of twelve answers, the first two of them different: int64 [12,h,w]."""
    scenes = [question.answers.draw(generator)]
    while len(scenes) < _MANY:
        scene = question.answers.draw(generator)
        if len(scenes) > 1 or scene != scenes[0]:
            scenes.append(scene)
    return encode_scenes(model, scenes)[2]


def _rates(model: AmusedModel, tokens: Tensor, asked: list[Question]) -> dict[str, Number]:
    found = judge_answers(model, decode_tokens(model, tokens), tokens, asked)
    return {"valid": rate(found.valid), "mixed": rate(found.mixed)}
