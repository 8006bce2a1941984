"""Wildcards in prompts: of "{red|green} apple" each picture's seed chooses one."""

from __future__ import annotations

import hashlib
import re

# A group without groups in it: inner ones are chosen first. Braces without "|" are text.
GROUP = re.compile(r"\{([^{}|]*(?:\|[^{}|]*)+)\}")


def expand_wildcards(prompt: str, seed: int) -> str:
    """The prompt with one choice of every group, the same for the same prompt and seed."""
    place = 0
    while group := GROUP.search(prompt):
        choices = group[1].split("|")
        prompt = prompt[: group.start()] + choices[stable_hash(seed, place) % len(choices)] + prompt[group.end() :]
        place += 1
    return prompt


def stable_hash(*parts: object) -> int:
    """64 bits that depend on `parts` only."""
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
