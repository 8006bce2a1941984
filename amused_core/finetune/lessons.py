"""The examples as tokens, which is all that training sees of them; and the model's own pictures of a class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model import AmusedModel
from ..networks.encoded_prompt import AESTHETIC_SCORE
from ..networks.vq import VQ
from .data import Example

_DRAWN_AT_A_TIME = 8


@dataclass(frozen=True)
class Lessons:
    """Pictures to learn: `tokens` int64 [N,h,w], their `captions`, and `micro` float [N,5] as in `UVit.forward`."""

    tokens: Tensor
    captions: tuple[str, ...]
    micro: Tensor

    def __len__(self) -> int:
        return len(self.captions)

    def digest(self) -> str:
        """Changes with any of the content."""
        content = hashlib.sha256("\0".join(self.captions).encode("utf-8", "replace"))
        for tensor in (self.tokens, self.micro):
            content.update(tensor.cpu().numpy().tobytes())
        return content.hexdigest()


def encode(examples: Iterable[Example], vq: VQ) -> Lessons:
    """The tokens of the examples. The U-ViT is told the size that they have now, and what was cut off."""
    tokens, captions, micro = [], [], []
    for example in examples:
        tokens.append(vq.encode(example.picture).cpu())
        captions.append(example.caption)
        height, width = example.picture.shape[1:3]
        micro.append([width, height, *example.crop, AESTHETIC_SCORE])
    return Lessons(torch.cat(tokens), tuple(captions), torch.tensor(micro, dtype=torch.float32))


def draw_prior(model: AmusedModel, prompts: Sequence[str], count: int, seed: int) -> Lessons:
    """`count` pictures that the model draws of the prompts in turn, so that training can hold on to what it knows.

    Without guidance: the model's own distribution, not a sharpened one.
    """
    captions = [prompts[i % len(prompts)] for i in range(count)]
    tokens = []
    for start in range(0, count, _DRAWN_AT_A_TIME):
        some = captions[start : start + _DRAWN_AT_A_TIME]
        seeds = [(seed + start + i) % 2**64 for i in range(len(some))]
        tokens.append(model.generate(some, seed=seeds, cfg=1.0).tokens)
    size = model.checkpoint.recommended
    micro = torch.tensor([[size.width, size.height, 0, 0, AESTHETIC_SCORE]], dtype=torch.float32)
    return Lessons(torch.cat(tokens), tuple(captions), micro.repeat(count, 1))
