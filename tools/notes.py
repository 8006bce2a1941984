"""How much room a Markdown note needs, whatever fonts the machine has.

Frontends differ in fonts and line spacing, and Nodes 2.0 spaces notes more widely: a note is laid out for wide letters
and high lines, not for those of the machine that builds it.
"""

from __future__ import annotations

import math
import re

# Pixels of the canvas. The width fits the longest line of code, which Nodes 2.0 does not break.
WIDTH, PADDING = 480, 16
LETTER, LINE = 5.9, 13.7
GAP, HEADING, CODE = 10, 7, 18
MARKS = re.compile(r"\*\*?|`|\]\([^)]*\)|\[")


def note_size(markdown: str) -> tuple[int, int]:
    """Width and height of a note, in pixels of the canvas."""
    blocks = markdown.strip().split("\n\n")
    return WIDTH, math.ceil(2 * PADDING + sum(_height(block) + GAP for block in blocks))


def _height(block: str) -> float:
    """Height of a paragraph, heading, list or line of code."""
    if block.startswith("    "):
        return CODE + LINE * _lines(block)
    extra = HEADING if block.startswith("#") else 0
    return extra + LINE * sum(_lines(MARKS.sub("", line)) for line in block.splitlines())


def _lines(text: str) -> int:
    """Lines that `text` takes."""
    return max(1, math.ceil(len(text) * LETTER / (WIDTH - 2 * PADDING)))
