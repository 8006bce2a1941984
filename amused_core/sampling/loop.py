"""The sampling loop of masked image models, as pure functions over tokens and a callable that predicts logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import AmusedError
from .filters import Narrow
from .measures import Measures
from .randomness import Draws

Predict = Callable[[Tensor, int, Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """What `on_step` gets after each step.

    Attributes:
        index: the step just done, 0 to `total - 1`.
        total: steps of this run.
        tokens: int64 [B,h,w] after the step, undecided cells hold the mask token.
        predicted: int64 [B,h,w], the step's guess for every cell.
        measures: how sure the model was; to be read within `on_step`.
    """

    index: int
    total: int
    tokens: Tensor
    predicted: Tensor
    measures: Measures | None = None


def sample(
    tokens: Tensor,
    predict: Predict,
    ratios: Tensor,
    draws: Draws,
    *,
    mask_token_id: int,
    temperatures: Tensor,
    region: Tensor | None = None,
    on_step: Callable[[Step], None] | None = None,
    narrow: Narrow | None = None,
) -> Tensor:
    """Fills the masked cells of `tokens`, the surest first (MaskGIT, Chang et al. 2022; diffusers' `AmusedScheduler`).

    Each step draws a code for every masked cell, keeps those of highest `log p + temperature * Gumbel noise`, and
    masks the rest again so that the schedule's share of the region stays masked. A known token is never changed.
    `p` is the model's own probability of the drawn code, whatever `narrow` made of it: MaskGIT and open-muse, too,
    rank the cells by the softmax of the unfiltered logits.

    Args:
        tokens: int64 [B,h,w]; cells equal to `mask_token_id` are to be drawn.
        predict: `(tokens, step index, cells) -> logits [n,K]`, guidance applied, of the n masked cells: `cells` int64
            [n] are their places in the flattened grids, rising (`at` picks them from logits of every cell). Not called
            when nothing is masked at the start.
        ratios: float32 [steps+1], falling mask ratios (`schedule.mask_ratios`).
        draws: the source of randomness.
        temperatures: float32 [steps], noise of the choice which cells to keep (`schedule.temperatures`).
        region: bool [B,h,w], the cells the ratios are a share of; None for the whole grid.
        on_step: called after every step; what it raises (an interrupt) passes through.
        narrow: logits fp32 [n,K] -> the probabilities that codes are drawn from (`filters.narrow`); None: softmax.

    Returns:
        int64 [B,h,w]; cells stay masked only where `ratios` end above 0 (the first stage of several).

    Raises:
        AmusedError: at the end, where any logits were NaN: to look at each step's would be to wait for the device.
    """
    shape, total = tokens.shape, len(ratios) - 1
    tokens = tokens.flatten(1)
    size = tokens.shape[1]
    share = torch.ones(len(tokens), 1) if region is None else region.flatten(1).sum(-1, keepdim=True).cpu() / size
    if not (tokens == mask_token_id).any():
        return tokens.view(shape)
    wanted = (size * (share * ratios[1:].cpu())).floor().to(tokens.device)
    heat, final = temperatures.tolist(), (ratios[1:] <= 0).tolist()
    broken = torch.zeros((), dtype=torch.bool, device=tokens.device)
    for index in range(total):
        unknown = tokens == mask_token_id
        # How many cells are masked is the one thing in a step that the host has to wait for.
        cells = unknown.flatten().nonzero()[:, 0]
        logits = predict(tokens.view(shape), index, cells).float()
        probs = logits.softmax(-1)
        # One NaN or infinite logit makes the whole softmax of its cell NaN.
        broken = broken | torch.isnan(probs[:, 0]).any()
        drawn = draws.codes(probs if narrow is None else narrow(logits), cells, tokens.shape)
        predicted = tokens.flatten().index_copy(0, cells, drawn).view_as(tokens)
        if final[index]:
            tokens = predicted
        else:
            confidence = _confidence(probs, drawn, unknown, cells, heat[index], draws)
            least = _least_sure(confidence, unknown, wanted[:, index, None])
            tokens = torch.where(least, mask_token_id, predicted)
        if on_step is not None:
            measures = Measures(probs, drawn, cells, unknown.view(shape))
            on_step(Step(index, total, tokens.view(shape), predicted.view(shape), measures))
            measures.close()
    if broken:
        raise AmusedError("The model's logits are NaN: its weights are damaged, or its dtype is too small for them.")
    return tokens.view(shape)


def remask(tokens: Tensor, ratio: Tensor, draws: Draws, mask_token_id: int, region: Tensor | None = None) -> Tensor:
    """Masks a share `ratio` (fp32 scalar) of the `region` (bool [B,h,w]; None = all): how picture to picture starts."""
    eligible = torch.ones_like(tokens, dtype=torch.bool) if region is None else region
    chosen = draws.cells(eligible.flatten(1), ratio).view(tokens.shape)
    return torch.where(chosen, mask_token_id, tokens)


def at(logits: Tensor, cells: Tensor) -> Tensor:
    """Logits [B,K,h,w] of every cell -> [n,K] of those in the places `cells` int64 [n] of the flattened grids."""
    logits = logits.flatten(2)
    size = logits.shape[2]
    return logits.transpose(1, 2)[cells // size, cells % size]


def _confidence(
    probs: Tensor, drawn: Tensor, unknown: Tensor, cells: Tensor, temperature: float, draws: Draws
) -> Tensor:
    """Noisy log-probability of each drawn code, fp32 [B,N]; infinite where the token was known."""
    chosen = probs.gather(-1, drawn[:, None])[:, 0]
    known = torch.full((unknown.numel(),), torch.inf, device=probs.device)
    log_probs = known.index_copy(0, cells, chosen).view_as(unknown).clamp(1e-20).log()
    return log_probs + temperature * draws.gumbel(log_probs)


def _least_sure(confidence: Tensor, unknown: Tensor, wanted: Tensor) -> Tensor:
    """The `wanted` (float [B,1]) least sure cells of each row: at least one, fewer than are unknown, no known one."""
    count = unknown.sum(-1, keepdim=True)
    wanted = torch.minimum(count - 1, wanted).clamp(1, max(unknown.shape[1] - 1, 0)).long()
    cut = confidence.sort(-1).values.gather(1, wanted)
    return (confidence < cut) & unknown
