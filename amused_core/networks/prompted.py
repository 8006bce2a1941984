"""A U-ViT that has been told what to draw: what a prompt stands for is worked out once, not in every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..sampling.guidance import guide
from ..sampling.loop import Predict
from .kernels import KEPT_BYTES
from .text import Text, TextEmbedding
from .transformer import Condition, UVit

AESTHETIC_SCORE = 6.0


class Prompted:
    """What a U-ViT makes of one prompt at one size.

    Attributes:
        condition: of a single row.
        start: the features of the wholly masked grid, fp32 or less [1,h,w,C], once a first step has needed them. They
            are the same for every seed.
    """

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.start: Tensor | None = None


def prompted(uvit: UVit, text: TextEmbedding, micro: Tensor) -> list[Prompted]:
    """One `Prompted` for each row of `text`; `micro` [1,5] or [B,5] as in `UVit.forward`."""
    rows = len(text.hidden)
    condition = uvit.condition(text.hidden, text.pooled, micro.expand(rows, -1))
    return [Prompted(_rows(condition, slice(i, i + 1))) for i in range(rows)]


def predictor(
    uvit: UVit,
    cond: Sequence[Prompted],
    uncond: Sequence[Prompted] | None,
    cfg: Sequence[float],
    every: int = 1,
    options: dict[str, Any] | None = None,
) -> Predict:
    """A callable that gives the guided logits of the masked cells.

    The guidance is applied to the features that the logits are linear in: in fp32, and with half the work there.
    Where every cell is masked, equal prompts have equal features, which are worked out once and kept.

    Args:
        cond, uncond: one for each picture; those that are the same object share their work. `uncond` None: no guidance.
        cfg: the guidance of each step; 1 skips the unconditional rows.
        every: of this many guided steps the first runs the unconditional rows; the others take its difference of
            conditional and unconditional features (LazyMAR's condition cache, Yan et al. 2025). 1 is exact.
        options: a host's, for `UVit.grid`.
    """
    both = None if uncond is None else [*uncond, *cond]
    plain, guided = _joined(cond), None if both is None else _joined(both)
    steps = [index for index, weight in enumerate(cfg) if both is not None and weight != 1]
    fresh, kept = set(steps[::every]), {}

    def features(tokens: Tensor, rows: Sequence[Prompted], condition: Condition, blank: bool) -> Tensor:
        if not blank:
            return _features(uvit, tokens, condition, options)
        new = list({id(row): row for row in rows if row.start is None}.values())
        if new:
            start = _features(uvit, tokens[:1].expand(len(new), -1, -1), _joined(new), options)
            for row, feature in zip(new, start.split(1), strict=True):
                row.start = feature
        return torch.cat([row.start for row in rows])

    def predict(tokens: Tensor, index: int, cells: Tensor) -> Tensor:
        if not len(cells):
            return torch.empty(0, uvit.config.codebook_size, device=tokens.device)
        blank = index == 0 and len(cells) == tokens.numel()
        if index in fresh:
            found = features(torch.cat([tokens, tokens]), both, guided, blank)
            without, with_text = (half.flatten(0, 2) for half in found.chunk(2))
            if every > 1:
                kept["difference"] = with_text.float() - without.float()
            chosen = guide(without[cells].float(), with_text[cells].float(), cfg[index]).to(found.dtype)
        else:
            found = features(tokens, cond, plain, blank).flatten(0, 2)
            chosen = found[cells]
            if index in steps:
                chosen = (chosen.float() + (cfg[index] - 1) * kept["difference"][cells]).to(found.dtype)
        return uvit.mlm_layer.logits(chosen[None, :, None])[0, :, :, 0].T

    return predict


class PromptMemory:
    """The last few prompts of a model, so that a new seed starts from what is known of them.

    Changed weights, another attention function, or other modules make it forget. Weights are recognised by their
    place, their version and one number of each, since edits through `.data` leave no other trace.
    """

    KEPT = 8

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], Prompted] = {}
        self._made_by: Any = None

    def recall(self, uvit: UVit, text: Text, prompts: Sequence[str], width: int, height: int) -> list[Prompted]:
        """One `Prompted` for each prompt, the same object for the same text; sizes in pixels."""
        # A twin with 8-bit products keeps copies of weights; it is another object when they change.
        made_by = (uvit, uvit.attend, fingerprint(uvit), fingerprint(text.module))
        if made_by != self._made_by:
            self._known, self._made_by = {}, made_by
        keys = [(prompt, width, height) for prompt in prompts]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if new:
            rows = told(uvit, text, [prompt for prompt, *_ in new], width, height)
            self._known.update(zip(new, rows, strict=True))
        found = {key: self._known[key] for key in keys}
        others = {key: row for key, row in self._known.items() if key not in found}
        self._known = dict(list({**others, **found}.items())[-self.KEPT :])
        return [found[key] for key in keys]


def told(uvit: UVit, text: Text, prompts: Sequence[str], width: int, height: int) -> list[Prompted]:
    """A new `Prompted` for each prompt, with a picture of `width` x `height` pixels, uncropped, of score 6."""
    device, dtype = uvit.encoder_proj.weight.device, uvit.encoder_proj.weight.dtype
    hidden, pooled = (part.to(device, dtype) for part in text.encode(prompts))
    micro = torch.tensor([[width, height, 0, 0, AESTHETIC_SCORE]], device=device)
    return prompted(uvit, TextEmbedding(hidden, pooled), micro)


def fingerprint(module: nn.Module) -> tuple[Any, ...]:
    """What tells a module's weights apart from others, and from themselves after a change."""
    weights = [weight.detach() for weight in module.parameters()]
    versions = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    return versions, tuple(torch.stack([weight.reshape(-1)[0].float() for weight in weights]).tolist())


def _features(uvit: UVit, tokens: Tensor, condition: Condition, options: dict[str, Any] | None) -> Tensor:
    """What the logits are linear in, [B,h,w,C]; on a CPU no more rows at a time than memory is kept for."""
    at_once = max(1, KEPT_BYTES // uvit.row_bytes(tokens)) if tokens.device.type == "cpu" else len(tokens)
    parts = [slice(first, first + at_once) for first in range(0, len(tokens), at_once)]
    grids = (uvit.grid(tokens[part], _rows(condition, part), options) for part in parts)
    return torch.cat([uvit.mlm_layer.features(grid) for grid in grids])


def _joined(rows: Sequence[Prompted]) -> Condition:
    """The conditions of several rows as one; a view where all are the same."""
    first, count = rows[0], len(rows)
    if all(row is first for row in rows):
        return _each(lambda part: part.expand(count, *part.shape[1:]), first.condition)
    return _each(lambda *parts: torch.cat(parts), *(row.condition for row in rows))


def _rows(condition: Condition, chosen: slice) -> Condition:
    return _each(lambda part: part[chosen], condition)


def _each(function: Callable[..., Tensor], *conditions: Any) -> Any:
    """Applies `function` to the tensors that conditions of the same make have in the same place."""
    first = conditions[0]
    if isinstance(first, Tensor):
        return function(*conditions)
    parts = [_each(function, *places) for places in zip(*conditions, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
