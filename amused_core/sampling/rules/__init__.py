"""Unmasking rules: after each step, a rule names the cells that are masked again. One file each, chosen by name."""

from . import choose, hybrid
from .confidence import confidence
from .entropy import entropy
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

__all__ = ["RULES", "Guess", "Rule", "revised"]
