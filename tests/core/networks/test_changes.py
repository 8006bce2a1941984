"""Whoever changes a module gets pictures with the change: the fast decoder steps back."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_core.networks.changes import Blueprint
from amused_core.networks.decoder import fast_decoder
from amused_core.networks.vq import VQ
from tests.tiny import tiny_vq

TOKENS = torch.randint(64, (1, 4, 4), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vq() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny_vq().eval()


def conv(vq: Any) -> nn.Conv2d:
    return vq.decoder.up_blocks[0].resnets[0].conv1


def around(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Seamless tiling, as packs put it in the place of `Conv2d._conv_forward`."""
    if self.kernel_size == (1, 1):
        return F.conv2d(x, weight, bias)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight, bias, self.stride)


class LowRank(nn.Conv2d):
    """A convolution with something added, as an adapter does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


class DoubledSilu(nn.SiLU):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def tiling_of_an_instance(vq: Any) -> None:
    for part in vq.decoder.modules():
        if isinstance(part, nn.Conv2d):
            part._conv_forward = types.MethodType(around, part)


def forward_of_an_instance(vq: Any) -> None:
    old = conv(vq).forward
    conv(vq).forward = lambda x: old(x) * 2


def forward_of_the_decoder(vq: Any) -> None:
    old = vq.decoder.forward
    vq.decoder.forward = lambda *given: old(*given) * 2


def decode_of_the_vq(vq: Any) -> None:
    old = vq.decode

    def decode(*given: Any, **named: Any) -> Any:
        out = old(*given, **named)
        out.sample = out.sample * 2
        return out

    vq.decode = decode


def subclass(vq: Any) -> None:
    conv(vq).__class__ = LowRank


def activation(vq: Any) -> None:
    vq.decoder.up_blocks[0].resnets[0].nonlinearity = DoubledSilu()


def hook(vq: Any) -> None:
    conv(vq).register_forward_hook(lambda module, given, out: out * 2)


def pre_hook(vq: Any) -> None:
    conv(vq).register_forward_pre_hook(lambda module, given: (given[0] * 2,))


def hook_with_names(vq: Any) -> None:
    vq.decoder.register_forward_hook(lambda module, given, named, out: out * 2, with_kwargs=True)


def padding(vq: Any) -> None:
    part = conv(vq)
    part.padding_mode = "circular"


def scale(vq: Any) -> None:
    vq.decoder.up_blocks[0].resnets[0].output_scale_factor = 2.0


def epsilon(vq: Any) -> None:
    vq.decoder.conv_norm_out.eps = 10.0


def parametrization(vq: Any) -> None:
    nn.utils.parametrize.register_parametrization(conv(vq), "weight", Doubled())


def weight_norm(vq: Any) -> None:
    from torch.nn.utils import weight_norm

    weight_norm(conv(vq))
    conv(vq).weight_g.data *= 2


def another_module(vq: Any) -> None:
    vq.decoder.conv_act = nn.Sequential(nn.SiLU(), DoubledSilu())


def own_attention(vq: Any) -> None:
    vq.decoder.mid_block.resnets[0].forward = lambda x, *_: x * 2


CHANGES = [
    tiling_of_an_instance, forward_of_an_instance, forward_of_the_decoder, decode_of_the_vq, subclass, activation,
    hook, pre_hook, hook_with_names, padding, scale, epsilon, parametrization, weight_norm, another_module,
    own_attention,
]  # fmt: skip


@torch.no_grad()
def theirs(vq: Any) -> Tensor:
    """diffusers' own picture."""
    shape = (*TOKENS.shape, vq.config.latent_channels)
    return vq.decode(TOKENS, force_not_quantize=True, shape=shape).sample.clamp(0, 1).movedim(1, -1)


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_decoder_is_called_itself(vq: Any, change: Callable[[Any], None], used: bool) -> None:
    """Also where the fast one has been built already."""
    before = theirs(vq)
    if used:
        VQ(vq).decode(TOKENS)
    change(vq)
    assert fast_decoder(vq) is None
    assert torch.equal(VQ(vq).decode(TOKENS), theirs(vq)) and not torch.equal(theirs(vq), before)


def doubled(old: Any) -> Any:
    def forward(self: Any, *given: Any, **named: Any) -> Any:
        return old(self, *given, **named) * 2

    return forward


def wrapped(old: Any) -> Any:
    """As `functools.wraps` leaves it: it says that it is torch's own."""
    new = doubled(old)
    new.__module__, new.__name__, new.__wrapped__ = old.__module__, old.__name__, old
    return new


@pytest.mark.parametrize("wrap", [doubled, wrapped])
@pytest.mark.parametrize("name", ["torch.nn.Conv2d._conv_forward", "torch.nn.Conv2d.forward", "torch.nn.SiLU.forward",
    "torch.nn.Module.__call__", "diffusers.models.resnet.ResnetBlock2D.forward",
    "diffusers.models.autoencoders.vae.Decoder.forward"])  # fmt: skip
def test_a_method_of_a_class(vq: Any, name: str, wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import pydoc

    kind = pydoc.locate(name.rpartition(".")[0])
    VQ(vq).decode(TOKENS)
    with monkeypatch.context() as patch:
        patch.setattr(kind, name.rpartition(".")[2], wrap(getattr(kind, name.rpartition(".")[2])))
        assert fast_decoder(vq) is None and torch.equal(VQ(vq).decode(TOKENS), theirs(vq))
    assert fast_decoder(vq) is not None


def test_tiling_of_the_class(vq: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = VQ(vq).decode(TOKENS)
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", around)
    assert torch.equal(VQ(vq).decode(TOKENS), theirs(vq)) and not torch.allclose(theirs(vq), before, atol=1e-3)


def test_a_hook_on_all_modules(vq: Any) -> None:
    VQ(vq).decode(TOKENS)
    handle = nn.modules.module.register_module_forward_hook(lambda module, given, out: None)
    assert fast_decoder(vq) is None
    handle.remove()
    assert fast_decoder(vq) is not None


def test_a_change_that_is_taken_back(vq: Any) -> None:
    before = VQ(vq).decode(TOKENS)
    handle = conv(vq).register_forward_hook(lambda module, given, out: out * 2)
    assert fast_decoder(vq) is None
    handle.remove()
    assert fast_decoder(vq) is not None and torch.equal(VQ(vq).decode(TOKENS), before)


def test_what_makes_no_difference(vq: Any) -> None:
    """Notes on a module, training mode, hooks on gradients and state dicts."""
    vq.train()
    conv(vq).note = "mine"
    conv(vq).register_full_backward_hook(lambda *given: None)
    conv(vq).register_state_dict_pre_hook(lambda *given: None)
    assert fast_decoder(vq) is not None


def test_a_subclass_of_the_vq(vq: Any) -> None:
    class Brighter(type(vq)):
        def decode(self, *given: Any, **named: Any) -> Any:
            out = super().decode(*given, **named)
            out.sample = out.sample + 0.1
            return out

    vq.__class__ = Brighter
    assert fast_decoder(vq) is None and torch.equal(VQ(vq).decode(TOKENS), theirs(vq))


def test_attributes_are_compared_by_value() -> None:
    one, other = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
    assert Blueprint(one).fits(other)
    other.stride = (2, 2)
    assert not Blueprint(one).fits(other)
    assert not Blueprint(one).fits(nn.Conv2d(4, 4, 3, bias=False)) and not Blueprint(one).fits(nn.Conv2d(4, 5, 3))
