"""Unmasking rules: after each step, a rule names the cells that are masked again. One file each, chosen by name."""

from .confidence import confidence
from .entropy import entropy
from .halton import halton
from .random import random
from .rule import Guess, Rule

RULES: dict[str, Rule] = {
    "confidence": Rule(confidence),
    "random": Rule(random),
    "halton": Rule(halton),
    "entropy": Rule(entropy),
}

__all__ = ["RULES", "Guess", "Rule"]
