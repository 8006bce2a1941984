"""One number for each cell of a recorded run: when it was decided, how surely, and what it looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import AmusedError, quoted
from ..settings.inputs import is_whole
from .record import UNDECIDED, Trace
from .words import positions


def order_map(trace: Trace) -> Tensor:
    """int64 [B,h,w], the last step (from 1) that decided each cell; 0: known before, S+1: not decided in this run."""
    undecided = trace.tokens == UNDECIDED
    # Not the number of such states: with `revision`, cells are decided more than once.
    return (undecided * torch.arange(1, len(undecided) + 1).view(-1, 1, 1, 1)).amax(0)


def confidence_map(trace: Trace, step: int = 0) -> Tensor:
    """fp32 [B,h,w] in 0..1, the probability of each cell's code; `step` as in `entropy_map`."""
    return _at(trace, trace.probability, step, known=1.0)


def entropy_map(trace: Trace, step: int = 0) -> Tensor:
    """fp32 [B,h,w] in nats, how open each cell was.

    Args:
        trace: a recorded run.
        step: 1 to S: all cells in that step (those decided before are sure); 0: each cell in the step that decided
            it, and in the last one if none did.

    Raises:
        AmusedError: there is no such step.
    """
    return _at(trace, trace.entropy, step, known=0.0)


def word_map(trace: Trace, word: str, step: int = 0) -> Tensor:
    """fp32 [B,h,w] in 0..1, how much each cell looks at `word`: its attention to the word's tokens, summed.

    Args:
        trace: a recorded run.
        word: a word of the prompt, or several that stand together.
        step: 1 to S; 0: the mean over all steps.

    Raises:
        AmusedError: the word is not in a picture's prompt, there is no such step, or attention was not recorded.
    """
    if trace.attention is None or not trace.words:
        raise AmusedError(
            "This trace holds no attention to the prompt: its run had no step, or its prompt is not plain text of one "
            "'aMUSEd text encode' or 'CLIP Text Encode'."
        )
    check_step(trace, step)
    weights = trace.attention.float()
    weights = weights[step - 1] if step else weights.mean(0)
    rows = [trace.words[index % len(trace.words)] for index in range(len(weights))]
    return torch.stack([_share(row, words, word) for row, words in zip(weights, rows, strict=True)])


def check_step(trace: Trace, step: int) -> None:
    """Raises `AmusedError` unless `step` is 0 or a step of the run."""
    if not is_whole(step) or not 0 <= step <= trace.steps:
        raise AmusedError(f"step is {quoted(step)}; this run had {trace.steps}: allowed are 0 to {trace.steps}.")


def _at(trace: Trace, values: Tensor, step: int, known: float) -> Tensor:
    """Values [S,B,h,w] -> [B,h,w], of one step, or of the one that decided each cell."""
    check_step(trace, step)
    if step:
        return values[step - 1]
    order = order_map(trace)
    if trace.steps == 0:
        return torch.full(order.shape, known)
    chosen = values.gather(0, (order - 1).clamp(0, trace.steps - 1)[None])[0]
    return torch.where(order > 0, chosen, known)


def _share(weights: Tensor, words: tuple[str, ...], word: str) -> Tensor:
    """Attention [h,w,L] -> [h,w], the part that goes to `word`."""
    # Prompts of unequal length are repeated by ComfyUI until they fit.
    length = len(words)
    if weights.shape[-1] % length:
        raise AmusedError(
            f"The trace holds attention to {weights.shape[-1]} tokens, but its prompt has {length}: it was joined with "
            "another one after encoding."
        )
    weights = weights.unflatten(-1, (-1, length)).sum(-2)
    return weights[..., positions(words, word)].sum(-1)
