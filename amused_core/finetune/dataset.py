"""The examples as tokens, which is all that training sees of them; and the model's own pictures, the prior."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model import AmusedModel
from ..networks.encoded_prompt import AESTHETIC_SCORE
from ..networks.vq import VQ
from .examples import Example

PRIOR_BATCH = 8


@dataclass(frozen=True)
class TokenDataset:
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


def encode_examples(examples: Iterable[Example], vq: VQ) -> TokenDataset:
    """The tokens of the examples; their micro-conditioning is the size that they have now and what was cut off."""
    tokens, captions, micro = [], [], []
    for example in examples:
        tokens.append(vq.encode(example.picture).cpu())
        captions.append(example.caption)
        height, width = example.picture.shape[1:3]
        micro.append([width, height, *example.crop, AESTHETIC_SCORE])
    return TokenDataset(torch.cat(tokens), tuple(captions), torch.tensor(micro, dtype=torch.float32))


def generate_prior(model: AmusedModel, prompts: Sequence[str], count: int, seed: int) -> TokenDataset:
    """`count` pictures that the model generates from the prompts in turn: training on them preserves what it knows.

    Without guidance: the model's own distribution, not a sharpened one.
    """
    captions = [prompts[i % len(prompts)] for i in range(count)]
    tokens = []
    for start in range(0, count, PRIOR_BATCH):
        batch = captions[start : start + PRIOR_BATCH]
        seeds = [(seed + start + i) % 2**64 for i in range(len(batch))]
        tokens.append(model.generate(batch, seed=seeds, cfg=1.0).tokens)
    size = model.checkpoint.recommended
    micro = torch.tensor([[size.width, size.height, 0, 0, AESTHETIC_SCORE]], dtype=torch.float32)
    return TokenDataset(torch.cat(tokens), tuple(captions), micro.repeat(count, 1))
