"""`torch.compile` for what every step runs with the same shapes."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..errors import AmusedError, one_line
from ..sampling.schedule import Progress
from .transformer import Transformer


class CompiledTransformer:
    """A transformer whose `features` are compiled, once for each shape of the tokens; the rest is `transformer`'s own.

    On CUDA the kernels of a pass are recorded in a CUDA graph ("reduce-overhead"): a pass of a single image is bound by
    the launches of some 500 kernels, not by arithmetic. The logits of the masked cells, whose number changes from step
    to step, are not compiled.
    """

    def __init__(self, transformer: Transformer) -> None:
        self._transformer = transformer

    def features(
        self, tokens: Tensor, condition: Any, progress: Progress | None = None, options: dict[str, Any] | None = None
    ) -> Tensor:
        """See `Transformer.features`.

        Raises:
            AmusedError: this machine cannot compile, for want of a C++ compiler or of Triton.
        """
        if options:  # A host's patches, or an observer, which a graph would not call.
            return self._transformer.features(tokens, condition, progress, options)
        run = _compiled_features(type(self._transformer), tokens.device.type)
        try:
            return run(self._transformer, tokens.contiguous(), condition, progress)
        except RuntimeError as error:
            if not type(error).__module__.startswith("torch._"):
                raise
            reason = one_line(getattr(error, "inner_exception", error))
            raise AmusedError(f"torch.compile does not work here ({reason}); leave compile out.") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transformer, name)


@cache
def _compiled_features(kind: type[Any], device: str) -> Any:
    """`features` of a class, compiled; holds no transformer."""
    mode = "reduce-overhead" if device == "cuda" else "default"
    return torch.compile(kind.features, dynamic=False, mode=mode)
