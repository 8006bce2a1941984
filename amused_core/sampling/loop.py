"""The sampling loop of masked image models: a pure function over tokens and a callable that predicts logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import AmusedError
from .filters import Filter
from .measures import Measures
from .randomness import Draws
from .rules import RULES, Guess, Rule
from .schedule import Progress, Schedule

Predict = Callable[[Tensor, Progress, Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """What `on_step` gets after each step.

    Attributes:
        index: the step just done, 0 to `total - 1`.
        total: steps of this run at most.
        tokens: int64 [B,h,w] after the step, masked cells hold the mask token.
        predicted: int64 [B,h,w], the step's guess for every cell.
        measures: how sure the model was; to be read within `on_step`.

    The tensors are the run's own: what is changed in place changes the image.
    """

    index: int
    total: int
    tokens: Tensor
    predicted: Tensor
    measures: Measures | None = None


def sample(
    tokens: Tensor,
    predict: Predict,
    schedule: Schedule,
    draws: Draws,
    *,
    mask_token_id: int,
    temperature: tuple[float, float],
    region: Tensor | None = None,
    on_step: Callable[[Step], None] | None = None,
    logits_filter: Filter | None = None,
    rule: Rule = RULES["confidence"],
) -> Tensor:
    """Fills the masked cells of `tokens` (MaskGIT, Chang et al. 2022; diffusers' `AmusedScheduler`).

    Each step draws a code for every masked cell; `rule` then masks some cells again, so that about the schedule's share
    of the region stays masked. A cell that was known at the start never changes. Rules judge by the model's own
    probability of a code, whatever `logits_filter` made of it: MaskGIT and open-muse, too, rank the cells by the
    softmax of the unfiltered logits.

    Args:
        tokens: int64 [B,h,w]; cells equal to `mask_token_id` are to be drawn.
        predict: `(tokens, progress, cells) -> logits [n,K]`, guidance applied, of the n masked cells: `cells` int64 [n]
            are their places in the flattened grids, rising (`at` picks them from logits of every cell). Not called
            when nothing is masked at the start.
        schedule: the steps of the run.
        draws: the source of randomness.
        mask_token_id: the id of a masked cell.
        temperature: randomness of the rule, at the first and the last step of the whole schedule.
        region: bool [B,h,w], the cells the mask ratios are a share of; None for the whole grid.
        on_step: called after every step; what it raises (an interrupt) passes through.
        logits_filter: `(logits fp32 [n,K], step) -> probabilities` that codes are drawn from; None is softmax.
        rule: which cells are masked again.

    Returns:
        int64 [B,h,w]; cells stay masked only where the schedule ends above 0 (the first stage of several).

    Raises:
        AmusedError: at the end, where any logits were NaN: to look at each step's would be to wait for the device.
    """
    shape = tokens.shape
    tokens = tokens.flatten(1)
    free = tokens == mask_token_id
    if not free.any():
        return tokens.view(shape)
    size = tokens.shape[1]
    share = torch.ones(len(tokens), 1) if region is None else region.flatten(1).sum(-1, keepdim=True).cpu() / size
    counts = (size * (share * schedule.ratios[1:].cpu())).floor().to(tokens.device)
    broken = torch.zeros((), dtype=torch.bool, device=tokens.device)
    for progress in schedule.progress(temperature):
        masked = tokens == mask_token_id
        # How many cells are masked is the one thing in a step that the host has to wait for.
        cells = masked.flatten().nonzero()[:, 0]
        if not len(cells):
            break
        logits = predict(tokens.view(shape), progress, cells).float()
        probs = logits.softmax(-1)
        # One NaN or infinite logit makes the whole softmax of its cell NaN.
        broken = broken | torch.isnan(probs[:, 0]).any()
        exponent = 1.0 if rule.exponent is None else rule.exponent(progress)
        codes = draws.codes(_code_probs(logits, probs, exponent, logits_filter, progress.index), cells, tokens.shape)
        predicted = tokens.flatten().index_copy(0, cells, codes).view_as(tokens)
        tokens = predicted
        if progress.next_ratio > 0:
            guess = Guess(probs, codes, cells, masked, free, counts[:, progress.index, None], tuple(shape[1:]))
            again = rule.remask(guess, progress, draws) & (free if rule.revises else masked)
            tokens = predicted.masked_fill(again, mask_token_id)
        if on_step is not None:
            measures = Measures(probs, codes, cells, masked.view(shape))
            on_step(Step(progress.index, progress.total, tokens.view(shape), predicted.view(shape), measures))
            measures.close()
    if broken:
        raise AmusedError("The model's logits are NaN: its weights are damaged, or its dtype is too small for them.")
    return tokens.view(shape)


def _code_probs(logits: Tensor, probs: Tensor, exponent: float, logits_filter: Filter | None, index: int) -> Tensor:
    """The probabilities fp32 [n,K] that a step draws codes from; `probs` are those of `logits`."""
    if exponent != 1:
        logits = logits * exponent
        probs = logits.softmax(-1) if logits_filter is None else probs
    return probs if logits_filter is None else logits_filter(logits, index)


def at(logits: Tensor, cells: Tensor) -> Tensor:
    """Logits [B,K,h,w] of every cell -> [n,K] of those in the places `cells` int64 [n] of the flattened grids."""
    logits = logits.flatten(2)
    size = logits.shape[2]
    return logits.transpose(1, 2)[cells // size, cells % size]
