"""A grid of one token is computed from a few of its cells; the features are those of all cells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from amused_core.networks.attention import OBSERVER, sdpa
from amused_core.networks.encoded_prompt import EncodedPrompt
from amused_core.networks.predictor import predictor
from amused_core.networks.transformer import ONE_TOKEN
from amused_core.networks.uvit.config import UVitConfig
from amused_core.networks.uvit.model import UVit
from amused_core.networks.uvit.repeats import find_repeats
from amused_core.sampling.schedule import Schedule

SIZES = {"hidden_size": 32, "cond_embed_dim": 16, "micro_cond_encode_dim": 8, "micro_cond_embed_dim": 40}
SIZES |= {"encoder_hidden_size": 16, "vocab_size": 20, "codebook_size": 16, "in_channels": 24, "block_num_heads": 2}
SIZES |= {"block_out_channels": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def uvit(res_blocks: int = 2, downsample: bool = False) -> UVit:
    config = UVitConfig(**SIZES, num_res_blocks=res_blocks, downsample=downsample, upsample=downsample)
    model, generator = UVit(config), torch.Generator().manual_seed(0)
    for weight in model.parameters():
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model.eval()


def condition(model: UVit, rows: int) -> Any:
    generator = torch.Generator().manual_seed(1)
    text, pooled = (torch.randn(rows, *shape, generator=generator) for shape in ((5, 16), (16,)))
    return model.condition(text, pooled, torch.full((rows, 5), 6.0))


def queries(model: UVit, tokens: Tensor, options: dict[str, Any] | None = None) -> tuple[Tensor, set[int]]:
    """The features, and how many cells the trunk's self-attention was asked for."""
    seen = set()

    def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, name: str, options: dict[str, Any]) -> Tensor:
        if q.shape[-1] == SIZES["hidden_size"]:
            seen.add(q.shape[1])
        return sdpa(q, k, v, heads, name, options)

    model.attend = attend
    options = {ONE_TOKEN: True} if options is None else options
    return model.features(tokens, condition(model, len(tokens)), None, options), seen


@torch.no_grad()
@pytest.mark.parametrize("downsample", [False, True])
@pytest.mark.parametrize("res_blocks", [1, 2, 3])
@pytest.mark.parametrize("sides", [(16, 16), (12, 20), (8, 24), (4, 4), (2, 30)])
def test_features_are_those_of_all_cells(sides: tuple[int, int], res_blocks: int, downsample: bool, monkeypatch: Any):
    model, tokens = uvit(res_blocks, downsample), torch.full((3, *sides), 19)
    few, seen = queries(model, tokens)
    monkeypatch.setattr(model, "may_repeat", lambda options: False)
    whole, every = queries(model, tokens)
    torch.testing.assert_close(few, whole, rtol=1e-4, atol=1e-4)
    trunk = [side // 2 if downsample else side for side in sides]
    assert every == {trunk[0] * trunk[1]}
    assert seen == {min(trunk[0], 2 * res_blocks + 1) * min(trunk[1], 2 * res_blocks + 1)}
    spread = whole.flatten(0, 2).std(0).mean()
    assert spread > 0.01, "cells near the border differ, or the test shows nothing"


@torch.no_grad()
def test_without_the_hint_every_cell_is_computed() -> None:
    assert queries(uvit(), torch.full((1, 12, 12), 19), {})[1] == {144}


@torch.no_grad()
@pytest.mark.parametrize("downsample", [False, True])
def test_an_observer_sees_every_cell_and_changes_nothing(downsample: bool, monkeypatch: Any) -> None:
    model, tokens, watched = uvit(downsample=downsample), torch.full((1, 24, 24), 19), []
    options = {OBSERVER: lambda q, k, heads, options: watched.append(q), ONE_TOKEN: True}
    plain, few = queries(model, tokens)
    features, computed = queries(model, tokens, options)
    assert torch.equal(plain, features) and few == computed == {25}
    shown, watched[:] = list(watched), []
    monkeypatch.setattr(model, "may_repeat", lambda options: False)
    queries(model, tokens, options)
    assert len(shown) == len(watched) > 2
    for cells, every in zip(shown, watched, strict=True):
        torch.testing.assert_close(cells, every, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_an_odd_grid_that_is_padded_is_computed_whole() -> None:
    assert queries(uvit(downsample=True), torch.full((1, 23, 24), 19))[1] == {144}


@torch.no_grad()
def test_only_the_first_step_of_a_new_image_is_hinted() -> None:
    """An image whose tokens are partly known has no such step."""
    model = uvit()
    prompt = EncodedPrompt(condition(model, 1))
    tokens, seen = torch.full((2, 12, 12), 19), []
    model.attend = lambda q, k, v, heads, name, options: seen.append(q.shape[1]) or sdpa(q, k, v, heads, name, options)
    predict = predictor(model, [prompt, prompt], None, [1.0, 1.0])
    first, second, *_ = Schedule.named("linear", 2).progress((0.0, 0.0))
    for cells, progress, want in (
        (288, first, {25, 144}),
        (288, first, set()),
        (200, second, {144}),
        (200, first, {144}),
    ):
        seen.clear()
        predict(tokens, progress, torch.arange(cells))
        assert set(seen) == want


@pytest.mark.parametrize("sides", [(5, 5), (4, 3), (1, 1)])
def test_a_small_grid_repeats_nothing(sides: tuple[int, int]) -> None:
    assert find_repeats(*sides, 2) is None


def test_which_cells_are_equal() -> None:
    repeats = find_repeats(5, 3, 1)
    assert repeats.sides == (3, 3)
    assert repeats.equal.view(5, 3).tolist() == [[0, 1, 2], [3, 4, 5], [3, 4, 5], [3, 4, 5], [6, 7, 8]]
    assert repeats.equal[repeats.first].tolist() == list(range(9))
