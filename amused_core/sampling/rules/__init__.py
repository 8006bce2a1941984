"""Unmasking rules: after each step, a rule names the cells that are masked again. One file each, chosen by name."""

from .confidence import confidence
from .rule import Guess, Rule

RULES: dict[str, Rule] = {"confidence": Rule(confidence)}

__all__ = ["RULES", "Guess", "Rule", "confidence"]
