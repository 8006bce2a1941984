"""Unmasking rules: after each step, a rule names the cells that are masked again. One file each, chosen by name."""

from functools import partial

from . import choose, hybrid
from .confidence import confidence
from .entropy import BOUND, entropy
from .halton import halton
from .random import random
from .revision import revised
from .rule import Guess, Rule

RULES: dict[str, Rule] = {
    "confidence": Rule(confidence),
    "random": Rule(random),
    "halton": Rule(halton),
    "entropy": Rule(entropy),
    "choose-then-sample": Rule(choose.choose, exponent=choose.exponent),
    "hybrid": Rule(hybrid.hybrid, exponent=hybrid.exponent),
}


def rule_named(order: str, *, revision: float = 0.0, entropy_bound: float = BOUND) -> Rule:
    """The rule of a run; the keywords are settings of the same name."""
    rule = Rule(partial(entropy, bound=entropy_bound)) if order == "entropy" else RULES[order]
    return revised(rule, revision)


__all__ = ["BOUND", "RULES", "Guess", "Rule", "rule_named"]
