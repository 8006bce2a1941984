"""The grid a pipeline's run begins with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..sampling.randomness import Draws
from ..sampling.start import start_tokens
from ..settings import inputs
from .draws import RowDraws


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        tokens: int64 [n,h,w]: masked cells, or the picture's own tokens; one grid, one per prompt or one per picture.
        schedule: "cosine" or "linear".
        counts: how many of each thing the caller gave (argument's name -> count).
        strength: share of the schedule that runs, 0..1.
        region: bool [m,h,w], the cells to draw anew; None leaves the choice to chance and `strength`.
    """

    tokens: Tensor
    schedule: str
    counts: dict[str, int]
    strength: float = 1.0
    region: Tensor | None = None

    def spread(
        self, prompts: int, copies: int, ratio: float, draws: Draws, mask_token_id: int
    ) -> tuple[Tensor, Tensor | None]:
        """Masked tokens and region, each [prompts * copies, h, w], in the order p0, p1, p0, p1."""
        if self.region is None and ratio == 1:
            whole = len(self.tokens) == prompts * copies
            return self.tokens if whole else inputs.rows(self.tokens, prompts).repeat(copies, 1, 1), None
        tokens = inputs.rows(self.tokens, prompts)
        if self.region is not None:
            region = inputs.rows(self.region, prompts).to(tokens.device).repeat(copies, 1, 1)
            tokens = tokens.repeat(copies, 1, 1)
            return start_tokens(tokens, ratio, draws, mask_token_id, region, whole=True), region
        if isinstance(draws, RowDraws):
            return start_tokens(tokens.repeat(copies, 1, 1), ratio, draws, mask_token_id), None
        # One stream: as in diffusers, the copies of one prompt begin with the same cells masked.
        return start_tokens(tokens, ratio, draws, mask_token_id).repeat(copies, 1, 1), None
