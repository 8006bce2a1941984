"""A transformer whose large matrix products run in 8-bit integers: several times faster on some CPUs, not exact."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import AmusedError
from .weights import weights_version

_copies: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = WeakKeyDictionary()


class Int8Linear(nn.Module):
    """A linear layer with weights in int8, one scale for each output, and inputs in 8 bits, one scale for each call.

    torch's dynamic quantization: weights are symmetric, inputs go from their least to their greatest value.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).double()
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 2.15 announces a successor in another package.
            rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(rounded, None if layer.bias is None else layer.bias.float())
        # Without VNNI, sums of two products are kept in 16 bits: with 7 bits an input they cannot overflow.
        self.reduce_range = not torch.cpu._is_vnni_supported()

    def forward(self, x: Tensor) -> Tensor:
        """fp32 [..., inputs] -> fp32 [..., outputs]."""
        return torch.ops.quantized.linear_dynamic(x.contiguous(), self.packed, self.reduce_range)

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


def int8_problem(transformer: nn.Module) -> str | None:
    """Why `quantized_copy` cannot work, as a sentence; None where it can."""
    weight = next(transformer.parameters())
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        where = f"in {str(weight.dtype).removeprefix('torch.')} on {weight.device.type!r}"
        return f"int8 works in fp32 on a CPU only, and this model is {where}; leave int8 out."
    if not _works():
        return (
            f"int8 needs a torch with quantized linear layers, and {torch.__version__} has none here; leave int8 out."
        )
    return None


@cache
def _works() -> bool:
    """Whether this torch has 8-bit products for this processor, and a small one comes out about right."""
    layer = nn.utils.skip_init(nn.Linear, 64, 32)
    layer.weight.data = torch.linspace(-1, 1, 32 * 64).view(32, 64)
    layer.bias.data = torch.linspace(-1, 1, 32)
    x = torch.linspace(0, 99, 4 * 64).view(4, 64).cos()
    with torch.no_grad():
        want = layer(x)
        try:
            found = Int8Linear(layer)(x)
        except (AttributeError, RuntimeError):  # No such product, or none for this processor.
            return False
    return bool((found - want).abs().max() < 0.1 * want.abs().max())


def _build(transformer: nn.Module) -> nn.Module:
    # Whoever watches the embedding sees the copy's passes, too.
    shared = {id(part): part for part in (*transformer.parameters(), transformer.embed)}
    copied = copy.deepcopy(transformer, shared)
    for name, module in list(copied.named_modules()):
        if isinstance(module, nn.Linear) and not transformer.runs_once(name):
            copied.set_submodule(name, Int8Linear(module))
    return copied
