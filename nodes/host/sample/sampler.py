"""The sampler: the core's loop over ComfyUI's guided model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ....amused_core.errors import AmusedError
from ....amused_core.networks.threads import free_threads
from ....amused_core.sampling import loop as core
from ....amused_core.sampling.filters import ends, logits_filter
from ....amused_core.sampling.guidance import cfg_weights, rescale
from ....amused_core.sampling.randomness import SEEDINGS, Draws, PerImageDraws, SharedDraws, seeded
from ....amused_core.sampling.rules import rule_named
from ....amused_core.sampling.schedule import Progress, Schedule, start_step
from ....amused_core.sampling.start import start_tokens
from ....amused_core.settings import SamplingSettings, check_settings, resolve_settings
from .. import guards
from ..latent.latent_format import codes_to_tokens, tokens_to_codes, tokens_to_one_hot
from ..latent.preview import weight_guesses
from ..model import patches
from ..model.transformer import PROGRESS
from . import checks, fast_path
from .speed import LIMIT, GuidanceLimit

# Those that act within the sampler; the others make its sigmas and the guidance of each step.
SETTINGS = (
    "temperature",
    "sampling_temperature",
    "sampling_temperature_end",
    "top_k",
    "top_p",
    "order",
    "revision",
    "cfg_rescale",
    "entropy_bound",
)


def amused_sampler(**options: Any) -> comfy.samplers.KSAMPLER:
    """A SAMPLER with these options of `sample_amused`."""
    return comfy.samplers.KSAMPLER(sample_amused, options)


@torch.no_grad()
@free_threads()
def sample_amused(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    seeding: str = "per_image",
    seeds: list[int] | None = None,
    weights: list[float] | None = None,
    on_step: Callable[[core.Step], None] | None = None,
    **settings: Any,
) -> Tensor:
    """The core's sampler in the form of a k-diffusion one.

    Args:
        model: the guided model, `(one-hot grids, sigma, denoise_mask=, model_options=, seed=) -> logits [B,K,h,w]`.
        x: ignored: the start is made from the latent and the seeds, so that a picture depends on nothing else.
        sigmas: falling mask ratios [steps+1].
        extra_args: passed on to the model; its `denoise_mask` [B,1,h,w] is the region to draw anew.
        callback: called with each step.
        disable: no progress bar in the terminal.
        seeding: "per_image", or "diffusers": one generator for the batch.
        seeds: one for each picture; None derives them from its noise.
        weights: the guidance of each step, for the stock `CFGGuider` only; None leaves the guider as it is.
        on_step: called with each step of the core's loop, for records of the run.
        settings: fields of `SamplingSettings` named in `SETTINGS`; an `order` of None is the model's own.

    Returns:
        codes float32 [B,1,h,w].
    """
    args = dict(extra_args or {})
    info = guards.sampled_model(model).info
    settings["order"] = settings.get("order") or info.recommended.order
    chosen = SamplingSettings(**check_settings(settings, info.codebook_size))
    schedule = Schedule.from_ratios(checks.check_sigmas(sigmas))
    latent, noise = _attribute(model, "latent_image"), _attribute(model, "noise")
    mask = args.get("denoise_mask")
    args["denoise_mask"] = None  # A known token never changes in our loop.
    region = None if mask is None else mask[:, 0] >= 0.5
    masked, kept = info.codebook_size, info.codebook_size + 1
    draws = _draws(seeding, args.get("seed"), seeds, noise, latent)
    tokens = _start(codes_to_tokens(latent, masked), noise, float(schedule.ratios[0]), draws, region, masked, seeding)
    if region is not None:
        tokens = torch.where((tokens == masked) & ~region, kept, tokens)

    options, shape = args.get("model_options", {}), tuple(tokens.shape)
    predict = fast_path.predictor(model, options, weights, schedule, shape, chosen.cfg_rescale)
    predict = predict or _through_comfyui(model, sigmas, args, weights, info.codebook_size, chosen.cfg_rescale)
    heats = schedule.temperatures(ends(chosen.sampling_temperature, chosen.sampling_temperature_end))

    with tqdm(total=len(schedule), disable=disable) as bar:

        def report(step: core.Step) -> None:
            bar.update()
            if on_step is not None:
                on_step(step)
            if callback is not None:
                sigma = sigmas[step.index]
                denoised = tokens_to_one_hot(step.predicted, info.codebook_size)
                denoised = weight_guesses(denoised, step.tokens < info.codebook_size)
                codes = tokens_to_codes(step.tokens, info.codebook_size)
                callback({"x": codes, "i": step.index, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})

        tokens = core.sample(
            tokens,
            predict,
            schedule,
            draws,
            mask_token_id=masked,
            temperature=chosen.temperature,
            region=region,
            on_step=report,
            logits_filter=logits_filter(heats, chosen.top_k, chosen.top_p),
            rule=rule_named(chosen.order, revision=chosen.revision, entropy_bound=chosen.entropy_bound),
        )
    return tokens_to_codes(tokens, info.codebook_size)


def sample_latent(
    model: Any,
    latent: dict[str, Any],
    positive: list[Any],
    negative: list[Any],
    *,
    seed: int,
    denoise: float,
    seeding: str,
    settings: dict[str, Any],
    on_step: Callable[[core.Step], None] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """A whole run as the core's `generate` does it: same settings and seed, same tokens.

    Args:
        model, latent, positive, negative: of the graph.
        seed: picture i of a batch has `seed + i`.
        denoise: share of the schedule that runs, 0..1.
        seeding: "per_image" or "diffusers".
        settings: fields of `SamplingSettings`; None is the model's own recommendation.
        on_step: called with each step of the core's loop.
        quiet: no preview and no progress of this run, which is part of a longer one.
    """
    info = guards.amused_model(model).info
    samples = checks.codes_of(latent["samples"], info.codebook_size)
    samples = comfy.sample.fix_empty_latent_channels(model, samples)
    mask = latent.get("noise_mask")
    if mask is not None:
        mask = checks.mask_to_grid(mask, samples.shape[-2:])  # Newer versions shrink it before we see it again.
    resolved = resolve_settings(info.recommended, settings, info.codebook_size, masked=mask is not None)
    if denoise <= 0:
        return latent
    schedule = Schedule.named(resolved.schedule, resolved.steps, start_step(resolved.steps, denoise))
    weights = cfg_weights(resolved.cfg, resolved.cfg_schedule, schedule, resolved.cfg_interval)
    seeds = [(seed + index) % 2**64 for index in latent.get("batch_index", range(len(samples)))]
    sampler = amused_sampler(
        seeding=seeding,
        seeds=seeds,
        weights=None if resolved.cfg_schedule == "constant" else weights,
        on_step=on_step,
        **{name: getattr(resolved, name) for name in SETTINGS},
    )
    # One level below `comfy.sample`, which newer versions may tell to hand on half precision.
    tokens = comfy.samplers.sample(
        model,
        torch.ones_like(samples),
        positive,
        negative,
        max(resolved.cfg, 1.0),  # Below 1 ComfyUI would guide towards the negative prompt, and the core does not guide.
        model.load_device,
        sampler,
        schedule.ratios,
        model_options=model.model_options,
        latent_image=samples,
        denoise_mask=mask,
        callback=None if quiet else latent_preview.prepare_callback(model, len(schedule)),
        disable_pbar=quiet or not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return {**latent, "samples": tokens.to(comfy.model_management.intermediate_device())}


def _through_comfyui(
    model: Any,
    sigmas: Tensor,
    args: dict[str, Any],
    weights: list[float] | None,
    codebook_size: int,
    cfg_rescale: float,
) -> core.Predict:
    """Asks the guided model as ComfyUI's own samplers do."""
    guider = None if weights is None else _holder(model, "cfg")
    options = dict(args.get("model_options", {}))
    options["transformer_options"] = transformer_options = dict(options.get("transformer_options", {}))
    args = {**args, "model_options": options}
    limit = options.get(LIMIT)
    if cfg_rescale:
        after = options.get("sampler_post_cfg_function", [])
        options["sampler_post_cfg_function"] = [partial(_rescale, cfg_rescale), *after]

    def predict(tokens: Tensor, progress: Progress, cells: Tensor) -> Tensor:
        one_hot = tokens_to_one_hot(tokens, codebook_size)
        if weights is not None:
            guider.cfg = weights[progress.index]
        transformer_options[PROGRESS] = progress
        logits = core.at(model(one_hot, sigmas[progress.index].expand(len(tokens)), **args), cells)
        if progress.index == 0 and isinstance(limit, GuidanceLimit):
            limit.warn_unless_asked(_holder(model, "model_patcher"))
        # The loop would blame the weights, but the model has looked at its own logits.
        if not bool(logits.amax(-1).isfinite().all()):
            raise AmusedError(patches.spoilt_guidance(_holder(model, "model_patcher"), options))
        return logits

    return predict


def _rescale(share: float, guided: dict[str, Any]) -> Tensor:
    """`guidance.rescale` of logits [B,K,h,w] as a `sampler_post_cfg_function`."""
    logits = (guided[name].movedim(1, -1).float() for name in ("denoised", "cond_denoised"))
    return rescale(*logits, share).movedim(-1, 1)


def _attribute(wrapped: Any, name: str) -> Tensor:
    """An attribute of ComfyUI's inpainting wrapper, under any number of other wrappers."""
    return getattr(_holder(wrapped, name), name)


def _holder(wrapped: Any, name: str) -> Any:
    """The outermost wrapper that has an attribute."""
    while not hasattr(wrapped, name):
        wrapped = wrapped.inner_model
    return wrapped


def _start(
    tokens: Tensor, noise: Tensor, ratio: float, draws: Draws, region: Tensor | None, masked: int, seeding: str
) -> Tensor:
    """The grid a run begins with: zero noise ('DisableNoise') leaves it as it is, and so does a ratio of 0."""
    if not noise.any() or ratio <= 0:
        return tokens
    return start_tokens(tokens, ratio, draws, masked, region, whole=region is not None and seeding == "diffusers")


def _draws(seeding: str, seed: int | None, seeds: list[int] | None, noise: Tensor, latent: Tensor) -> Draws:
    if seeding not in SEEDINGS:
        raise AmusedError(f"seeding is {seeding!r}; allowed are {', '.join(SEEDINGS)}.")
    if seeding == "diffusers":
        return SharedDraws(seeded(seed or 0))
    if seeds is None:
        source = noise if noise.any() else latent + (seed or 0) % 2**16
        seeds = [_digest(picture) for picture in source]
    return PerImageDraws(seeds)


def _digest(values: Tensor) -> int:
    """64 bits of a picture's noise: any NOISE node works, and a picture's place in the batch does not matter."""
    data = values.detach().float().cpu().contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
