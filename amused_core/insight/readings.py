"""Maps with their scale: what the first and the last colour stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..settings.inputs import choice
from .maps import confidence_map, entropy_map, order_map, word_map
from .record import Trace

KINDS = ("order", "confidence", "entropy")


@dataclass(frozen=True)
class Reading:
    """A map to be shown.

    Attributes:
        values: float [B,h,w].
        low, high: the values of the first and the last colour.
        start, end: what they mean, in words.
        blank: bool [B,h,w], cells without a value; None: all have one.
    """

    values: Tensor
    low: float
    high: float
    start: str
    end: str
    blank: Tensor | None = None


def read_trace(trace: Trace, kind: str, step: int = 0) -> Reading:
    """One of the maps of a run.

    Args:
        trace: a recorded run.
        kind: "order", "confidence" or "entropy" (in bits); see `maps`.
        step: as in `entropy_map`; the order has none.

    Raises:
        AmusedError: another kind, or no such step.
    """
    if choice(kind, "kind", KINDS) == "order":
        order, known = order_map(trace), bool((trace.tokens[0] >= 0).any())
        start = "known before" if known else "step 1"
        return Reading(order, 0 if known else 1, trace.steps, start, f"step {trace.steps}", order > trace.steps)
    if kind == "confidence":
        return Reading(confidence_map(trace, step), 0, 1, "0 %", "100 % sure")
    bits = entropy_map(trace, step) / math.log(2)
    return Reading(bits, 0, high := max(bits.max().item(), 0.1), "sure: 0 bits", f"open: {high:.1f} bits")


def read_word(trace: Trace, word: str, step: int = 0) -> Reading:
    """The attention to a word, brightest where it is highest; see `word_map`."""
    share = word_map(trace, word, step)
    high = share.max().item()
    return Reading(share, share.min().item(), high, f"{share.min().item():.1%}", f"{high:.1%} of attention")
