"""A transformer whose large matrix products run in 8-bit integers: several times faster on some CPUs, not exact."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import AmusedError
from .weights import weights_version

# The largest value of 8 bits, and the smallest scale's largest value: rows of zeros stay zeros.
LIMIT, TINY = 127, 1e-12
# Weights below which the products gain little, and passing the rows of a batch one at a time loses more.
SMALL = 50_000_000
_sizes: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
_copies: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = WeakKeyDictionary()


class Int8Linear(nn.Module):
    """A linear layer with weights in int8, one scale for each output, and inputs in int8, one scale for each token.

    Whole numbers add up the same in any order, so what a token gives does not depend on the others of its batch.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight, limit = layer.weight.detach().float(), _weight_limit()
        self.scale = (weight.abs().amax(1) / limit).clamp(min=TINY)
        self.weight = (weight / self.scale[:, None]).round().to(torch.int8)
        self.bias = None if layer.bias is None else layer.bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """fp32 [..., inputs] -> fp32 [..., outputs]."""
        rows = x.reshape(-1, x.shape[-1])
        largest = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True)).clamp_(min=TINY)
        rounded = (rows * (LIMIT / largest)).round_().to(torch.int8)
        product = torch._int_mm(rounded, self.weight.T).float().mul_(largest / LIMIT).mul_(self.scale)
        if self.bias is not None:
            product += self.bias
        return product.view(*x.shape[:-1], -1)

    def __deepcopy__(self, memo: dict[int, Any]) -> Int8Linear:
        return self  # It never changes.


def quantized_copy(transformer: nn.Module) -> nn.Module:
    """The transformer with 8-bit products in the layers that run in every step; all else is shared with `transformer`.

    Built once, and anew when the weights have changed.

    Raises:
        AmusedError: the transformer is not in fp32 on a CPU, or this torch has no such products.
    """
    problem = int8_problem(transformer)
    if problem is not None:
        raise AmusedError(problem)
    version, cached = weights_version(transformer), _copies.get(transformer)
    if cached is None or cached[0] != version:
        cached = _copies[transformer] = (version, _build(transformer))
    copied = cached[1]
    copied.attend = transformer.attend
    return copied


def is_quantized(transformer: nn.Module) -> bool:
    """Whether it is a `quantized_copy`: its rows go through it one at a time.

    Rounding to 8 bits makes a token's difference of what a batch changes in the last bit of an fp32 sum.
    """
    return getattr(transformer, "quantized", False)


def int8_pays(transformer: nn.Module) -> bool:
    """Whether `quantized_copy` works, and the transformer is large enough to gain by it."""
    if transformer not in _sizes:  # Batch jobs ask for every picture.
        _sizes[transformer] = sum(weight.numel() for weight in transformer.parameters())
    return _sizes[transformer] >= SMALL and int8_problem(transformer) is None


def int8_problem(transformer: nn.Module) -> str | None:
    """Why `quantized_copy` cannot work, as a sentence; None where it can."""
    weight = next(transformer.parameters())
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        where = f"in {str(weight.dtype).removeprefix('torch.')} on {weight.device.type!r}"
        return f"int8 works in fp32 on a CPU only, and this model is {where}; leave int8 out."
    if not _weight_limit():
        return f"int8 needs a torch with 8-bit matrix products, and {torch.__version__} has none here; leave int8 out."
    return None


@cache
def _weight_limit() -> int:
    """The largest whole number in weights with which this processor's 8-bit products are right; 0: none.

    Without VNNI the sums of two products are kept in 16 bits, where those of 8-bit weights overflow.
    """
    inputs = torch.full((32, 64), LIMIT, dtype=torch.int8)
    for limit in (LIMIT, LIMIT // 2):
        weight = torch.full((32, 64), limit, dtype=torch.int8)
        weight[::2].neg_()
        try:
            product = torch._int_mm(inputs, weight.T)
        except (AttributeError, RuntimeError):  # No such product, or none for this processor.
            return 0
        if bool((product == inputs.int().sum(1, keepdim=True) * weight[:, 0].int()).all()):
            return limit
    return 0


def _build(transformer: nn.Module) -> nn.Module:
    # Whoever watches the embedding sees the copy's passes, too.
    shared = {id(part): part for part in (*transformer.parameters(), transformer.embed)}
    copied = copy.deepcopy(transformer, shared)
    for name, module in list(copied.named_modules()):
        if isinstance(module, nn.Linear) and not transformer.runs_once(name):
            copied.set_submodule(name, Int8Linear(module))
    copied.quantized = True
    return copied
