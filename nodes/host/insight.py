"""Runs that are recorded, and what was recorded as pictures."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from ...amused_core import insight
from ...amused_core.errors import AmusedError
from ...amused_core.insight.attention import AttentionMeter
from ...amused_core.insight.words import unpack
from ...amused_core.networks.attention import OBSERVER, ROWS
from . import guards
from .latent import pictures
from .latent.latent_format import codes_to_tokens, tokens_to_codes
from .sample import checks, sampler

POSITIVE = 0


def sample(
    model: Any, latent: dict[str, Any], positive: list[Any], negative: list[Any], **settings: Any
) -> tuple[dict[str, Any], insight.Trace]:
    """A run of `sampler.sample_latent`, the same tokens, and its trace."""
    size = guards.amused_model(model).info.codebook_size
    meter = AttentionMeter()
    recorder = insight.Recorder(size, meter)
    observed = model.clone()
    observed.model_options.setdefault("transformer_options", {})[OBSERVER] = partial(_observe, meter)
    result = sampler.sample_latent(observed, latent, positive, negative, on_step=recorder, **settings)
    tokens = codes_to_tokens(checks.check_codes(result["samples"], size), size)
    return result, recorder.trace(tokens, _words(positive))


def picture(trace: Any, vae: Any, reading: insight.Reading, opacity: float, legend: bool) -> Tensor:
    """A reading over the pictures that the run ended with; see `insight.heatmap`."""
    below = None if opacity == 1 else insight.finished(trace, _decoder(trace, vae))
    return insight.heatmap(reading, below, opacity, legend)


def frames(trace: Any, vae: Any, undecided: str) -> Tensor:
    """The pictures after every step; see `insight.frames`."""
    return insight.frames(trace, _decoder(trace, vae), undecided)


def token_grid(latent: dict[str, Tensor], image: Tensor, ids: bool) -> Tensor:
    """Lines, and ids if wanted, over pictures of a LATENT's tokens; see `insight.token_grid`."""
    codes = checks.check_codes(latent["samples"], checks.MAX_CODES)
    image, codes = pictures.same_count(image=pictures.rgb(image), samples=codes)
    return insight.token_grid(codes_to_tokens(codes, insight.UNDECIDED).cpu(), image, ids)


def _observe(meter: AttentionMeter, q: Tensor, k: Tensor, heads: int, options: dict[str, Any]) -> None:
    """Shows the meter the rows of the positive prompt; several prompts one after another, so that it means them.

    In a pass of the core's predictor it sees every row: the prompt's come last, which the recorder knows.
    """
    if ROWS in options:
        meter.add(q, k, heads, options)
        return
    parts = options.get("cond_or_uncond", [POSITIVE])
    for part, queries, keys in zip(parts, q.chunk(len(parts)), k.chunk(len(parts)), strict=True):
        if part == POSITIVE:
            meter.add(queries, keys, heads)


def _words(positive: list[Any]) -> tuple[tuple[str, ...], ...]:
    """The words of a prompt; none where there are several prompts, or one that was joined after encoding."""
    if len(positive) != 1:
        return ()
    embedding, more = positive[0]
    words = unpack(more["amused_words"]) if "amused_words" in more else ()
    return (words,) if len(words) == embedding.shape[1] else ()


def _decoder(trace: Any, vae: Any) -> insight.Decode:
    """The VAE as the core's decoder.

    Raises:
        AmusedError: it is another model's.
    """
    vae = guards.amused_vae(vae)
    if vae.codebook_size != trace.codebook_size:
        raise AmusedError(
            f"This VAE has {vae.codebook_size} tokens and the trace's model {trace.codebook_size}; connect the VAE of "
            "the same 'Load aMUSEd'."
        )
    return lambda tokens: vae.decode(tokens_to_codes(tokens, vae.codebook_size))
