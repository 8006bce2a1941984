"""Revision: tokens that earlier steps have decided are masked again, and drawn anew by later ones."""

from __future__ import annotations

import torch
from torch import Tensor

from ..randomness import Draws
from ..schedule import Progress
from .rule import Guess, Rule


def revised(rule: Rule, revision: float) -> Rule:
    """`rule`, with a share `revision` of the decided tokens masked again after each step but the last.

    ReMDM with a capped rate (Wang et al. 2025, 2503.00307), in whole cells: `min(revision * decided, count - 1)` of
    those that earlier steps of the run have decided, each as likely, where `count` cells stay masked after the step.
    The rule decides as many more, so the count stays the schedule's. Tokens known when the run began never change; the
    second of two samplers therefore revises only what it has decided itself. Costs one sort of N cells more than the
    rule.

    Args:
        rule: any unmasking rule.
        revision: 0 to 1; 0 is the rule itself, with the same random numbers.
    """
    if revision == 0:
        return rule

    def remask(guess: Guess, progress: Progress, draws: Draws) -> Tensor:
        decided = guess.free & ~guess.masked
        again = (revision * decided.sum(-1, keepdim=True)).floor().minimum(guess.count - 1).clamp(min=0)
        # A finished picture stays as it is while others of its batch go on.
        again = again.masked_fill(~guess.masked.any(-1, keepdim=True), 0)
        noise = draws.gumbel(guess.count.expand(decided.shape)).masked_fill(~decided, -torch.inf)
        ranks = noise.argsort(-1, descending=True).argsort(-1)
        masked = rule.remask(guess._replace(count=guess.count - again), progress, draws) & guess.masked
        return masked | (decided & (ranks < again))

    return Rule(remask, revises=True, exponent=rule.exponent)
