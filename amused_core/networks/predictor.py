"""From a transformer and encoded prompts to the callable that gives the sampler its guided logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..sampling.guidance import guide, rescale
from ..sampling.loop import Predict, at
from ..sampling.schedule import Progress
from .attention import OBSERVER, ROWS
from .compiled import CompiledTransformer
from .encoded_prompt import EncodedPrompt, join_conditions, select_rows
from .int8 import is_quantized
from .kernels import KEPT_BYTES
from .text import TextEmbedding
from .threads import free_threads
from .transformer import ONE_TOKEN, Transformer

# The largest activation of a row from which a wake-up of threads costs little beside the products: 5.8 MB in the
# published models, 0.26 in the embedded one, at their usual sizes.
LARGE_BYTES = 2**20

Forward = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def predictor(
    transformer: Transformer,
    cond: Sequence[EncodedPrompt],
    uncond: Sequence[EncodedPrompt] | None,
    weights: Sequence[float],
    every: int = 1,
    options: dict[str, Any] | None = None,
    cfg_rescale: float = 0.0,
) -> Predict:
    """A callable that gives the guided logits of the masked cells.

    The guidance is applied to the features that the logits are linear in: in fp32, and with half the work there.
    Where every cell is masked, equal prompts have equal features, which are worked out once and kept; and from a few
    cells, if the transformer can.

    Args:
        transformer: what predicts.
        cond, uncond: one for each picture; those that are the same object share their work. `uncond` None: no guidance.
        weights: the guidance of each step; 1 skips the unconditional rows.
        every: of this many guided steps the first runs the unconditional rows; the others take its difference of
            conditional and unconditional features (LazyMAR's condition cache, Yan et al. 2025). 1 is exact.
        options: a host's, for `Transformer.features`.
        cfg_rescale: `share` of `guidance.rescale`; above 0 a guided step makes logits twice, guided and conditional.
    """
    both = None if uncond is None else [*uncond, *cond]
    cond_condition, both_condition = join_conditions(cond), None if both is None else join_conditions(both)
    guided = [index for index, weight in enumerate(weights) if both is not None and weight != 1]
    fresh, cache = set(guided[::every]), {}

    def features(tokens: Tensor, prompts: Sequence[EncodedPrompt], condition: Any, progress: Progress) -> Tensor:
        return _features(transformer, tokens, condition, progress, options)

    def first_features(tokens: Tensor, prompts: Sequence[EncodedPrompt], _: Any, progress: Progress) -> Tensor:
        new = list({id(prompt): prompt for prompt in prompts if prompt.first_features is None}.values())
        compiled = isinstance(transformer, CompiledTransformer)
        if new and compiled:
            new = list(prompts)  # As many rows as in every other step, for another shape would be compiled anew.
        if new:
            hints = options if compiled else {**(options or {}), ONE_TOKEN: True}
            grid = tokens[:1].expand(len(new), -1, -1)
            rows = _features(transformer, grid, join_conditions(new), progress, hints)
            for prompt, row in zip(new, rows.split(1), strict=True):
                prompt.first_features = row
        return torch.cat([prompt.first_features for prompt in prompts])

    def predict(tokens: Tensor, progress: Progress, cells: Tensor) -> Tensor:
        if not len(cells):
            return torch.empty(0, transformer.config.codebook_size, device=tokens.device)
        index = progress.index
        run = first_features if index == 0 and len(cells) == tokens.numel() else features
        if index in fresh:
            output = run(torch.cat([tokens, tokens]), both, both_condition, progress)
            without, with_text = (half.flatten(0, 2) for half in output.chunk(2))
            if every > 1:
                cache["difference"] = with_text.float() - without.float()
            plain = with_text[cells]
            chosen = guide(without[cells].float(), plain.float(), weights[index]).to(output.dtype)
        else:
            plain = chosen = run(tokens, cond, cond_condition, progress).flatten(0, 2)[cells]
            if index in guided:
                chosen = (plain.float() + (weights[index] - 1) * cache["difference"][cells]).to(plain.dtype)
        logits = transformer.logits(chosen)
        if cfg_rescale and index in guided:
            logits = rescale(logits.float(), transformer.logits(plain).float(), cfg_rescale)
        return logits

    return predict


def module_predictor(
    forward: Forward, cond: TextEmbedding, uncond: TextEmbedding | None, micro: Tensor, cfg: float
) -> Predict:
    """A callable that gives the guided logits of the masked cells, from any network that gives those of every cell.

    Args:
        forward: `(tokens, hidden, pooled, micro) -> logits [B,K,h,w]`.
        cond, uncond: embeddings of B rows; `uncond` None is no guidance.
        micro: [1,5] or [B,5].
        cfg: guidance of every step.
    """
    batch = len(cond.hidden)
    micro = micro.expand(batch, -1)
    if uncond is None:
        return lambda tokens, progress, cells: at(forward(tokens, *cond, micro), cells)
    hidden, pooled = (torch.cat(pair) for pair in zip(uncond, cond, strict=True))
    twice = torch.cat([micro, micro])

    def guided(tokens: Tensor, progress: Progress, cells: Tensor) -> Tensor:
        logits = forward(torch.cat([tokens, tokens]), hidden, pooled, twice)
        return guide(*(at(half, cells).float() for half in logits.chunk(2)), cfg)

    return guided


def _features(
    transformer: Transformer, tokens: Tensor, condition: Any, progress: Progress, options: dict[str, Any] | None
) -> Tensor:
    """Features [B,h,w,C]; on a CPU no more rows at a time than memory is kept for, and one where it is quantized."""
    on_cpu = tokens.device.type == "cpu"
    row_bytes = transformer.row_bytes(tokens)
    rows = max(1, KEPT_BYTES // row_bytes) if on_cpu else len(tokens)
    rows = 1 if is_quantized(transformer) else rows
    parts = [slice(first, min(first + rows, len(tokens))) for first in range(0, len(tokens), rows)]
    watched = options is not None and OBSERVER in options
    with free_threads(large=row_bytes >= LARGE_BYTES):
        return torch.cat(
            [
                transformer.features(
                    tokens[part],
                    select_rows(condition, part),
                    progress,
                    {**options, ROWS: part} if watched else options,
                )
                for part in parts
            ]
        )
