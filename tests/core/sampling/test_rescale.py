"""Normalized guidance: the spread of guided logits taken back."""

from __future__ import annotations

import pytest
import torch

from amused_core import AmusedModel
from amused_core.networks.encoded_prompt import encode_prompts
from amused_core.networks.predictor import predictor
from amused_core.sampling.guidance import guide, rescale
from amused_core.sampling.randomness import seeded
from amused_core.sampling.schedule import Schedule

UNCOND, COND = torch.randn(2, 5, 64, generator=seeded(0))
GUIDED = guide(UNCOND, COND, 4.0)


def test_1_gives_the_spread_of_the_conditional_logits_and_keeps_the_direction() -> None:
    done = rescale(GUIDED, COND, 1.0)
    torch.testing.assert_close(done.std(-1), COND.std(-1))
    torch.testing.assert_close(torch.cosine_similarity(done, GUIDED, -1), torch.ones(5))
    assert (GUIDED.std(-1) > 1.5 * COND.std(-1)).all()


def test_in_between() -> None:
    half = (GUIDED + rescale(GUIDED, COND, 1.0)) / 2
    torch.testing.assert_close(rescale(GUIDED, COND, 0.5), half)
    assert torch.equal(rescale(GUIDED, COND, 0.0), GUIDED)


def test_cells_without_a_spread_are_finite() -> None:
    flat = torch.zeros(2, 8)
    assert torch.equal(rescale(flat, flat, 1.0), flat)


@pytest.mark.parametrize("every", [1, 2])
def test_the_predictor_rescales_the_guided_steps(model: AmusedModel, every: int) -> None:
    """Against the conditional logits of the same tokens; a step without guidance is left alone."""
    texts = [encode_prompts(model.transformer, model.text, [text], 32, 32) for text in ("a cat", "")]
    tokens = torch.full((1, 8, 8), model.checkpoint.mask_token_id)
    tokens[:, 0] = 3
    cells, weights = (tokens.flatten() != 3).nonzero()[:, 0], [3.0, 3.0, 1.0]
    plain, done = (predictor(model.transformer, *texts, weights, every, None, share) for share in (0.0, 0.6))
    cond = predictor(model.transformer, texts[0], None, [1.0] * 3)
    with torch.no_grad():
        for progress in Schedule.named("cosine", 3).progress((2.0, 0.0)):
            guided, own = plain(tokens, progress, cells), cond(tokens, progress, cells)
            wanted = guided if weights[progress.index] == 1 else rescale(guided, own, 0.6)
            torch.testing.assert_close(done(tokens, progress, cells), wanted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(guided, rescale(guided, guided * 2, 0.6))


@pytest.mark.parametrize("options", [{}, {"cfg_every": 2}, {"cfg_interval": (0.2, 0.7)}], ids=str)
def test_a_picture_in_a_batch_is_the_picture_alone(model: AmusedModel, options: dict) -> None:
    settings = {"steps": 4, "cfg": 6.0, "cfg_rescale": 0.7, "width": 48, "height": 32, **options}
    batch = model.generate("a cat", seed=3, batch_size=3, **settings).tokens
    assert torch.equal(batch[2:], model.generate("a cat", seed=5, **settings).tokens)
    assert not torch.equal(
        batch, model.generate("a cat", seed=3, batch_size=3, **settings | {"cfg_rescale": 0.0}).tokens
    )
