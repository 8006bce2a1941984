"""Logits of our U-ViT against diffusers' `UVit2DModel`, random weights."""

from __future__ import annotations

import pytest
import torch
from diffusers import UVit2DModel

from amused_core.networks.uvit import UVit
from amused_core.networks.uvit.config import UVitConfig
from amused_core.pipelines.shared import shared_uvit
from tests.tiny import CODES, MASK_ID, tiny_transformer

GRIDS = [(8, 8), (16, 16), (4, 12), (12, 6), (2, 2)]
ODD = [(7, 9), (1, 1), (8, 5)]


def inputs(config, grid, batch=2):
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(config.vocab_size, (batch, *grid), generator=draw)
    hidden = torch.randn(batch, 7, config.encoder_hidden_size, generator=draw)
    pooled = torch.randn(batch, config.cond_embed_dim, generator=draw)
    micro = torch.tensor([[grid[1] * 16, grid[0] * 16, 3, 5, 6.0]]).expand(batch, -1)
    return tokens, hidden, pooled, micro


def theirs(model, tokens, hidden, pooled, micro):
    return model(tokens, encoder_hidden_states=hidden, pooled_text_emb=pooled, micro_conds=micro)


@pytest.fixture(scope="module", params=[False, True], ids=["256", "512"])
def pair(request):
    """diffusers' model, and ours with a copy of its weights."""
    with torch.random.fork_rng():
        torch.random.manual_seed(2)
        model = tiny_transformer(request.param).eval()
    uvit = UVit(UVitConfig.from_dict(model.config)).eval()
    uvit.load_state_dict(model.state_dict())
    return model, uvit


@torch.no_grad()
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_logits(pair, grid):
    model, uvit = pair
    given = inputs(model.config, grid)
    want, got = theirs(model, *given), uvit(*given)
    assert got.shape == (2, CODES, *grid)
    assert want.std() > 0.1
    assert (want - got).abs().max() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("grid", ODD, ids=str)
def test_odd_grids(pair, grid):
    model, uvit = pair
    given = inputs(model.config, grid)
    got = uvit(*given)
    assert got.shape == (2, CODES, *grid)
    # diffusers' model returns its padding, which its scheduler cannot use; inside of it the logits are the same.
    assert (theirs(model, *given)[..., : grid[0], : grid[1]] - got).abs().max() < 1e-4


def test_mask_token_is_an_input_but_no_output(pair):
    model, uvit = pair
    assert uvit.embed.embeddings.num_embeddings == MASK_ID + 1
    assert uvit.mlm_layer.conv2.out_channels == CODES


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("grid", [(16, 16), (32, 32)], ids=["amused-256", "amused-512"])
def test_full_size(grid):
    down = grid[0] == 32
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        model = UVit2DModel(downsample=down, upsample=down, sample_size=grid[0]).eval()
    assert sum(p.numel() for p in model.parameters()) == (608_257_792 if down else 603_537_664)
    uvit = shared_uvit(model)
    given = inputs(model.config, grid, batch=1)
    assert (theirs(model, *given) - uvit(*given)).abs().max() < 1e-4
