"""Text to picture: how often a prompt's picture shows what it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .drawing import Drawn
from .features import summary
from .judge import Reading, read
from .metrics import Number, bootstrap, code_entropy, frechet, number, psnr, rate
from .prompts import Prompt
from .verdict import Verdict, verdict
from .wanted import Wanted

MARGIN = 3.0
"""`right` allows this many dB below the VQ's own round trip of the wanted picture: twice its squared error."""


def right(found: Verdict, planes: Tensor, target: Wanted) -> Tensor:
    """The strict measure, bool [B]: everything is as asked, and nearly as good as the VQ can."""
    return found.all & (psnr(planes, target.planes) >= target.ceiling - MARGIN)


def accuracy(planes: Tensor, target: Wanted) -> dict[str, Number]:
    """All rates of pictures [B,3,128,128], and their PSNR to what was wanted."""
    found = verdict(read(planes), target.scenes)
    quality = psnr(planes, target.planes)
    return {
        "right": rate(right(found, planes, target)),
        "object": rate(found.object),
        "background": rate(found.background),
        "place": rate(found.place),
        "relation": rate(found.relation),
        "all": rate(found.all),
        "PSNR": bootstrap(quality, "dB"),
        "below VQ": bootstrap(target.ceiling - quality, "dB"),
    }


def measure(drawn: Drawn, target: Wanted, codes: int) -> dict[str, Number]:
    """The row of a cell: accuracy, distance of the distributions, entropy of the codes, cost."""
    true = summary(target.planes)
    return {
        **accuracy(drawn.planes, target),
        "Frechet": number(frechet(summary(drawn.planes), true)),
        "Frechet VQ": number(frechet(summary(target.round_trip), true)),
        "entropy": number(code_entropy(drawn.tokens, codes), "bit"),
        "entropy VQ": number(code_entropy(target.tokens, codes), "bit"),
        "passes": number(drawn.passes),
        "seconds": number(drawn.seconds, "s"),
    }


def by_kind(planes: Tensor, target: Wanted, prompts: Sequence[Prompt]) -> dict[str, dict[str, Any]]:
    """`right`, `object` and `relation` of every kind of prompt in the set, and of each part of a kind's name."""
    found = verdict(read(planes), target.scenes)
    strict = right(found, planes, target)
    kinds: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts):
        for kind in prompt.kind.split(", "):
            kinds.setdefault(kind, []).append(index)
    return {
        kind: {
            "pictures": len(rows),
            "right": rate(strict[rows]),
            "object": rate(found.object[rows]),
            "background": rate(found.background[rows]),
            "relation": rate(found.relation[rows]),
        }
        for kind, rows in sorted(kinds.items())
    }


def pictures(planes: Tensor, target: Wanted, prompts: Sequence[Prompt], seed: int) -> list[dict[str, Any]]:
    """One line for every picture: the prompt, what the judge saw and what it made of it."""
    seen: Reading = read(planes)
    found = verdict(seen, target.scenes)
    quality = psnr(planes, target.planes)
    columns = torch.stack([found.object, found.background, found.place, found.relation, right(found, planes, target)])
    return [
        {
            "prompt": prompt.text,
            "kind": prompt.kind,
            "seed": seed + index,
            "seen": seen.words(index),
            **dict(zip(("object", "background", "place", "relation", "right"), marks, strict=True)),
            "psnr": round(float(quality[index]), 2),
            "ceiling": round(float(target.ceiling[index]), 2),
        }
        for index, (prompt, marks) in enumerate(zip(prompts, columns.T.tolist(), strict=True))
    ]
