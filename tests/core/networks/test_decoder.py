"""The decoder for CPUs: the same picture as diffusers' own, part by part and as a whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_core import load_model
from amused_core.networks.decoder import fast_decoder, optimized
from amused_core.networks.decoder.blocks import Norm, Resnet
from amused_core.networks.decoder.spare import Spare
from amused_core.networks.decoder.winograd import Affine, WinogradConv, WinogradUpsample
from amused_core.networks.vq import VQ
from tests.tiny import tiny_vq

SIZES = [(1, 1), (1, 6), (5, 1), (4, 4), (2, 3), (7, 9), (13, 8), (34, 19)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def convolution(inputs: int, outputs: int, kernel: int = 3, bias: bool = True) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
    for index, parameter in enumerate(conv.parameters()):
        parameter.data.copy_(noise(*parameter.shape, seed=index + 1))
    return conv


def near(got: Tensor, want: Tensor, most: float = 1e-4) -> None:
    """Alike up to a share of the root mean square."""
    assert got.shape == want.shape and got.dtype == want.dtype
    assert (got - want).abs().max() <= most * want.square().mean().sqrt()


def twice(x: Tensor) -> Tensor:
    return F.interpolate(x[None], scale_factor=2.0, mode="nearest")[0]


@torch.no_grad()
def check(conv: nn.Conv2d, x: Tensor, kind: type[WinogradConv] = WinogradConv, norm: Affine | None = None) -> None:
    """Written and added, a picture [C,H,W] comes out as `conv` itself has it."""
    seen = x if norm is None else F.silu(x * norm.gain[:, None, None] + norm.shift[:, None, None])
    want = conv(twice(seen) if kind is WinogradUpsample else seen).permute(1, 2, 0)
    fast, picture = kind(conv), x.permute(1, 2, 0)
    assert fast.shape(picture) == want.shape
    near(fast(picture, torch.full(want.shape, torch.nan), norm), want)
    before = noise(*want.shape, seed=9)
    near(fast(picture, before.clone(), norm, add=True), want + before)


@pytest.mark.parametrize("kind", [WinogradConv, WinogradUpsample])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
@pytest.mark.parametrize("size", SIZES)
def test_winograd(size: tuple[int, int], last: bool, bias: bool, kind: type[WinogradConv]) -> None:
    x = noise(*size, 24).permute(2, 0, 1) if last else noise(24, *size)
    check(convolution(24, 17, bias=bias), x, kind)


@pytest.mark.parametrize("size", SIZES)
def test_winograd_of_a_normed_picture(size: tuple[int, int]) -> None:
    """Around the picture there are zeros, not the norm's shift."""
    check(convolution(24, 17), noise(24, *size), norm=Affine(noise(24, seed=5), noise(24, seed=6)))


@pytest.mark.parametrize("kind", [WinogradConv, WinogradUpsample])
@pytest.mark.parametrize("chunk", [1, 100, 200])
def test_winograd_in_several_chunks(chunk: int, kind: type[WinogradConv], monkeypatch: pytest.MonkeyPatch) -> None:
    from amused_core.networks.decoder import winograd

    monkeypatch.setattr(winograd, "CHUNK", chunk)
    check(convolution(8, 8), noise(8, 23, 10), kind)


@pytest.mark.parametrize("kind", [WinogradConv, WinogradUpsample])
@pytest.mark.parametrize("pays", [True, False])
def test_winograd_by_either_library(pays: bool, kind: type[WinogradConv], monkeypatch: pytest.MonkeyPatch) -> None:
    from amused_core.networks import kernels

    if pays and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(kernels, "onednn_pays", lambda: pays)
    check(convolution(24, 32), noise(24, 9, 10), kind)


@pytest.mark.parametrize("kind", [WinogradConv, WinogradUpsample])
def test_winograd_of_many_channels_is_as_exact(kind: type[WinogradConv]) -> None:
    check(convolution(512, 256), noise(512, 9, 10), kind)


@torch.no_grad()
def test_winograd_leaves_its_input_alone() -> None:
    conv, x = convolution(4, 4), noise(6, 6, 4)
    before = x.clone()
    WinogradConv(conv)(x, torch.empty(6, 6, 4), Affine(torch.ones(4), torch.ones(4)))
    assert torch.equal(x, before)


def test_spare_memory_is_used_again() -> None:
    spare = Spare()
    first = spare.take((4, 5, 6))
    place = first.data_ptr()
    spare.give(first.view(5, 4, 6)[1:])
    assert spare.take((11, 11)).data_ptr() != place, "too small"
    again = spare.take((2, 3))
    assert again.data_ptr() == place and again.shape == (2, 3) and again.is_contiguous()
    assert spare.take((2, 3)).data_ptr() != place, "still in use"


@torch.no_grad()
def theirs(module: Any, tokens: Tensor) -> Tensor:
    """diffusers' picture [B,H,W,3] in 0..1."""
    shape = (*tokens.shape, module.config.latent_channels)
    return module.decode(tokens, force_not_quantize=True, shape=shape).sample.clamp(0, 1).movedim(1, -1)


def tokens_for(module: Any, *shape: int) -> Tensor:
    return torch.randint(module.config.num_vq_embeddings, shape, generator=torch.Generator().manual_seed(0))


def same_picture(module: Any, tokens: Tensor) -> None:
    """At most one level of 8 bits apart, and nearly all alike; the picture is not all black or white."""
    got, want = VQ(module).decode(tokens), theirs(module, tokens)
    levels = ((got * 255).round() - (want * 255).round()).abs()
    assert levels.max() <= 1 and levels.mean() < 0.01
    inside = (want > 0) & (want < 1)
    assert inside.float().mean() > 0.3, "nothing to compare"
    assert (got - want).abs().max() < 1e-3


def large_vq() -> Any:
    """A random `VQModel` whose convolutions are large enough for every short cut, with attention in the middle."""
    from diffusers import VQModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = VQModel(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(128, 128, 192),
            layers_per_block=1,
            latent_channels=16,
            num_vq_embeddings=64,
            norm_num_groups=32,
            mid_block_add_attention=True,
            lookup_from_codebook=True,
            force_upcast=True,
        )
        nn.init.normal_(module.quantize.embedding.weight)
    module.decoder.conv_out.bias.data.fill_(0.5)
    module.decoder.conv_out.weight.data.mul_(0.3)
    return module.eval()


@pytest.fixture(scope="module")
def large() -> Any:
    return large_vq()


@pytest.fixture
def small() -> Any:
    """A tiny `VQModel` to change."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny_vq().eval()


def kinds(module: Any) -> set[str]:
    return {type(part).__name__ for part in fast_decoder(module).modules()}


@pytest.mark.parametrize("shape", [(1, 5, 7), (2, 4, 4), (1, 1, 1), (1, 1, 9)])
def test_a_large_decoder(large: Any, shape: tuple[int, ...]) -> None:
    assert kinds(large) >= {"Resnet", "Upsample", "Ending"}
    same_picture(large, tokens_for(large, *shape))


def test_the_embedded_decoder() -> None:
    module = load_model().vq.module
    side = module.config.sample_size // 16 if module.config.sample_size else 16
    same_picture(module, tokens_for(module, 2, max(side, 8), 16))


def test_without_memory_for_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    module = large_vq()
    monkeypatch.setattr(optimized, "_budget", lambda: 0.0)
    assert not {"Resnet", "Upsample"} & kinds(module)
    same_picture(module, tokens_for(module, 1, 4, 4))


def test_with_memory_for_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upsampling of 128 channels comes first."""
    module = large_vq()
    monkeypatch.setattr(optimized, "_budget", lambda: 25 * 4 * 128 * 128.0)
    fast = list(fast_decoder(module).modules())
    assert [type(part).__name__ for part in fast].count("Upsample") == 1
    assert not any(isinstance(part, Resnet) for part in fast)
    held = [weight for part in fast if isinstance(part, WinogradUpsample) for weight in part.weights]
    assert sum(weight.numel() for weight in held) == 25 * 128 * 128
    same_picture(module, tokens_for(module, 1, 4, 4))


def test_several_threads_at_once(large: Any) -> None:
    tokens = [tokens_for(large, 1, 3, 3 + i) for i in range(6)]
    want = [VQ(large).decode(grid) for grid in tokens]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(VQ(large).decode, tokens * 3))
    assert all(map(torch.equal, got, want * 3))


@pytest.mark.parametrize("size", [(5, 7), (64, 48), (200, 120)])
def test_norms_do_not_depend_on_the_number_of_threads(size: tuple[int, int]) -> None:
    """On a busy machine, `decoding_threads` takes more of them."""
    before, norm, x = torch.get_num_threads(), Norm(nn.GroupNorm(32, 128)), 3 + noise(*size, 128)
    x, results = x.permute(2, 0, 1)[None], []
    try:
        for number in (1, 2, 3, 4, 8):
            torch.set_num_threads(number)
            results.append(norm(x))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)
    near(results[0], norm.norm(x))


def test_norms_of_small_decoders_stay(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are faster, and small decoders run on one thread."""
    assert "Norm" not in kinds(small)
    monkeypatch.setattr(optimized, "_budget", lambda: 0.0)
    assert "Norm" in kinds(large_vq())


def test_norm_of_a_picture_of_one_value() -> None:
    """Rounding leaves a variance below zero."""
    for value in (0.0, 0.1, 100.1):
        got = Norm(nn.GroupNorm(32, 128))(torch.full((1, 128, 24, 24), value))
        assert got.abs().max() < 0.1


def test_spare_memory_stays_in_its_thread() -> None:
    spare = Spare()
    place = (mine := spare.take((2, 3))).data_ptr()
    spare.give(mine)
    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(spare.take, (2, 3)).result()
    assert others.data_ptr() != place and spare.take((2, 3)).data_ptr() == place


def test_memory_is_given_back(large: Any) -> None:
    VQ(large).decode(tokens_for(large, 2, 4, 4))
    assert not fast_decoder(large).spare._free


def test_the_model_itself_is_left_alone(large: Any) -> None:
    """diffusers' decoder keeps its modules; the optimized one has no weights of its own but the transformed ones."""
    names = [(name, type(part)) for name, part in large_vq().decoder.named_modules()]
    assert [(name, type(part)) for name, part in large.decoder.named_modules()] == names
    assert not any(part.inplace for part in large.decoder.modules() if isinstance(part, nn.SiLU))
    mine = {id(weight) for weight in large.parameters()}
    assert all(id(weight) in mine for weight in fast_decoder(large).parameters())


def in_place(module: Any) -> None:
    with torch.no_grad():
        for weight in module.decoder.parameters():
            weight.mul_(1.1)


def through_data(module: Any) -> None:
    for weight in module.decoder.parameters():
        weight.data.mul_(1.1)


def loaded(module: Any) -> None:
    module.load_state_dict({name: value * 1.1 for name, value in module.state_dict().items()})


def replaced(module: Any) -> None:
    conv = module.decoder.up_blocks[0].upsamplers[0].conv
    conv.weight = nn.Parameter(conv.weight.detach() * 1.1)


@pytest.mark.parametrize("change", [in_place, through_data, loaded, replaced])
def test_changed_weights_are_noticed(small: Any, change: Callable[[Any], None]) -> None:
    tokens = tokens_for(small, 1, 4, 4)
    before = VQ(small).decode(tokens)
    assert fast_decoder(small) is fast_decoder(small), "built once"
    change(small)
    after = VQ(small).decode(tokens)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, theirs(small, tokens), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_keep_diffusers_decoder(small: Any, dtype: torch.dtype) -> None:
    assert fast_decoder(small) is not None
    assert fast_decoder(small.to(dtype)) is None
    if dtype is torch.float64:
        tokens = tokens_for(small, 1, 4, 4)
        assert torch.equal(VQ(small).decode(tokens), theirs(small, tokens))


def test_one_odd_weight_is_enough(small: Any) -> None:
    small.decoder.conv_out.double()
    assert fast_decoder(small) is None


def test_gradients_still_flow_through_diffusers_decoder(small: Any) -> None:
    """Pictures come from the optimized decoder; training goes on as before."""
    VQ(small).decode(tokens_for(small, 1, 4, 4))
    small.decode(noise(1, 8, 4, 4)).sample.sum().backward()
    assert all(weight.grad is not None for weight in small.decoder.parameters())
