"""What happened in a run, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..sampling.loop import Step
from ..settings.inputs import function, texts
from .attention import AttentionMeter, to_grid
from .words import words_of

if TYPE_CHECKING:
    from ..model import AmusedModel, Result

UNDECIDED = -1


@dataclass(frozen=True)
class Trace:
    """A recorded run of S steps over B pictures of h x w tokens, on the CPU.

    Attributes:
        tokens: int64 [S+1,B,h,w], the grid before the first step and after each one; -1 where undecided.
        predicted: int64 [S,B,h,w], each step's guess for every cell.
        probability: fp32 [S,B,h,w], the model's own probability of that guess; 1 where the token was known.
        entropy: fp32 [S,B,h,w] in nats, of the model's distribution for the cell; 0 where the token was known.
        codebook_size: number of codes K; no entropy is above log K.
        attention: fp16 [S,B,h,w,L], how much each cell looks at each token of the prompt; sums to 1 over L. None: not
            recorded.
        words: of each picture's prompt (one entry for all, or one each), the word that each of the L tokens belongs
            to; see `words_of`.
    """

    tokens: Tensor
    predicted: Tensor
    probability: Tensor
    entropy: Tensor
    codebook_size: int
    attention: Tensor | None = None
    words: tuple[tuple[str, ...], ...] = ()

    @property
    def steps(self) -> int:
        """Number of steps S."""
        return len(self.predicted)


class Recorder:
    """An `on_step` that keeps what `Trace` needs.

    Args:
        codebook_size: number of codes; larger ids are undecided cells.
        meter: is asked for the attention of each step; None records none.
    """

    def __init__(self, codebook_size: int, meter: AttentionMeter | None = None) -> None:
        self.codebook_size = codebook_size
        self.meter = meter
        self._tokens: list[Tensor] = []
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []
        self._attention: list[Tensor] = []

    def __call__(self, step: Step) -> None:
        """Keeps a step."""
        tokens, predicted, measures = self._known(step.tokens), self._known(step.predicted), step.measures
        if not self._tokens:
            self._tokens.append(predicted.masked_fill(measures.unknown.cpu(), UNDECIDED))
        self._tokens.append(tokens)
        self._steps.append((predicted, measures.probability.cpu(), measures.entropy.cpu()))
        seen = None if self.meter is None else self.meter.take()
        # With guidance the prompt's rows come last.
        seen = None if seen is None else to_grid(seen[-len(tokens) :], *tokens.shape[1:])
        if seen is not None:
            self._attention.append(seen.half().cpu())

    def trace(self, tokens: Tensor, words: tuple[tuple[str, ...], ...] = ()) -> Trace:
        """What was recorded of a run that ended in `tokens` int64 [B,h,w]; a run may have had no step at all."""
        end = self._known(tokens)
        states = torch.stack(self._tokens or [end])
        nothing = torch.empty(0, *end.shape)
        steps = [torch.stack(values) for values in zip(*self._steps, strict=True)] or [nothing.long(), nothing, nothing]
        complete = 0 < len(self._attention) == len(self._steps)
        attention = torch.stack(self._attention) if complete else None
        return Trace(states, *steps, self.codebook_size, attention, words)

    def _known(self, tokens: Tensor) -> Tensor:
        tokens = tokens.cpu()
        return torch.where(tokens < self.codebook_size, tokens, UNDECIDED)


def trace(model: AmusedModel, prompt: Any, **settings: Any) -> tuple[Result, Trace]:
    """Draws as `model.generate(prompt, **settings)` does, the same tokens, and records the run."""
    meter = AttentionMeter()
    recorder = Recorder(model.checkpoint.transformer_config.codebook_size, meter)
    on_step, on_attention = (function(settings.pop(name, None), name) for name in ("on_step", "on_attention"))
    watchers = {"on_step": _both(recorder, on_step), "on_attention": _both(meter.add, on_attention)}
    result = model.generate(prompt, **watchers, **settings)
    ids = model.text.ids(texts(prompt, "prompt")).tolist()
    return result, recorder.trace(result.tokens, tuple(words_of(model.text.tokenizer, row) for row in ids))


def _both(first: Callable[..., None], second: Callable[..., None] | None) -> Callable[..., None]:
    """A callback that calls two, one after the other."""

    def call(*arguments: Any) -> None:
        first(*arguments)
        if second is not None:
            second(*arguments)

    return call
