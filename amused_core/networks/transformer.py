"""What the sampler asks of a transformer, whatever its family."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..sampling.schedule import Progress
from .attention import Attend

# Where the options of a pass say that its grid is one token repeated, which a transformer may make use of.
ONE_TOKEN = "amused_one_token"


class Transformer(Protocol):
    """A masked-image transformer: from a partly masked grid of tokens and a prompt to logits over the codebook.

    Attributes:
        config: has at least `codebook_size` and `vocab_size`.
        attend: the attention function; may be replaced at any time.
        device: where its weights are.
        dtype: what it computes in.
        embed: the module that every pass of a batch goes through once, for whoever counts passes.
    """

    config: Any
    attend: Attend
    device: torch.device
    dtype: torch.dtype
    embed: nn.Module

    def condition(self, hidden: Tensor, pooled: Tensor, micro: Tensor) -> Any:
        """All that the prompt contributes, worked out once a run: tensors in (named) tuples, batch first.

        `hidden` [B,L,D] and `pooled` [B,P] are the text encoder's, `micro` [B,5] is width, height, crop top, crop left
        and aesthetic score.
        """

    def features(
        self, tokens: Tensor, condition: Any, progress: Progress | None = None, options: dict[str, Any] | None = None
    ) -> Tensor:
        """What the logits are linear in: `tokens` int64 [B,h,w] -> [B,h,w,C].

        `options` are a host's, passed on; `ONE_TOKEN` among them is a hint.
        """

    def logits(self, features: Tensor) -> Tensor:
        """`features` [n,C] -> logits [n,K]."""

    def runs_once(self, name: str) -> bool:
        """Whether the layer of that name runs once a run only; such layers stay exact in `int8`, at no cost."""

    def row_bytes(self, tokens: Tensor) -> int:
        """The largest activation that a row of `tokens` [B,h,w] has on its way to its features."""
