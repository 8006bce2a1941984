"""How often the picture of a prompt shows what the prompt asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..images.psnr import psnr
from .features import summary
from .generation import GeneratedImages
from .judge import Reading, read
from .metrics import Number, bootstrap, code_entropy, frechet, number, rate
from .prompts import Prompt
from .targets import Targets
from .verdict import Verdict, verdict

MARGIN = 3.0
"""`right` allows this many dB below the VQ's own round trip of the target: twice its squared error."""


def right(result: Verdict, planes: Tensor, targets: Targets) -> Tensor:
    """The strict measure, bool [B]: everything is as requested, and nearly as good as the VQ-GAN can."""
    return result.all & (psnr(planes, targets.planes) >= targets.ceiling - MARGIN)


def accuracy(planes: Tensor, targets: Targets) -> dict[str, Number]:
    """All rates of pictures [B,3,128,128], and their PSNR to the targets."""
    result = verdict(read(planes), targets.scenes)
    quality = psnr(planes, targets.planes)
    return {
        "right": rate(right(result, planes, targets)),
        "object": rate(result.object),
        "background": rate(result.background),
        "place": rate(result.place),
        "relation": rate(result.relation),
        "all": rate(result.all),
        "PSNR": bootstrap(quality, "dB"),
        "below VQ": bootstrap(targets.ceiling - quality, "dB"),
    }


def measure(images: GeneratedImages, targets: Targets, codes: int) -> dict[str, Number]:
    """The row of a cell: accuracy, distance of the distributions, entropy of the codes, cost."""
    true = summary(targets.planes)
    return {
        **accuracy(images.planes, targets),
        "Frechet": number(frechet(summary(images.planes), true)),
        "Frechet VQ": number(frechet(summary(targets.round_trip), true)),
        "entropy": number(code_entropy(images.tokens, codes), "bit"),
        "entropy VQ": number(code_entropy(targets.tokens, codes), "bit"),
        "passes": number(images.passes),
        "seconds": number(images.seconds, "s"),
    }


def by_kind(planes: Tensor, targets: Targets, prompts: Sequence[Prompt]) -> dict[str, dict[str, Any]]:
    """`right`, `object` and `relation` of every kind of prompt in the set, and of each part of a kind's name."""
    result = verdict(read(planes), targets.scenes)
    strict = right(result, planes, targets)
    kinds: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts):
        for kind in prompt.kind.split(", "):
            kinds.setdefault(kind, []).append(index)
    return {
        kind: {
            "pictures": len(rows),
            "right": rate(strict[rows]),
            "object": rate(result.object[rows]),
            "background": rate(result.background[rows]),
            "relation": rate(result.relation[rows]),
        }
        for kind, rows in sorted(kinds.items())
    }


def pictures(planes: Tensor, targets: Targets, prompts: Sequence[Prompt], seed: int) -> list[dict[str, Any]]:
    """One line for every picture: the prompt, what the judge saw and what it made of it."""
    reading: Reading = read(planes)
    result = verdict(reading, targets.scenes)
    quality = psnr(planes, targets.planes)
    columns = torch.stack(
        [result.object, result.background, result.place, result.relation, right(result, planes, targets)]
    )
    return [
        {
            "prompt": prompt.text,
            "kind": prompt.kind,
            "seed": seed + index,
            "seen": reading.words(index),
            **dict(zip(("object", "background", "place", "relation", "right"), marks, strict=True)),
            "psnr": round(float(quality[index]), 2),
            "ceiling": round(float(targets.ceiling[index]), 2),
        }
        for index, (prompt, marks) in enumerate(zip(prompts, columns.T.tolist(), strict=True))
    ]
