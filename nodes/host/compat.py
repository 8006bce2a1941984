"""Every difference between ComfyUI versions that the pack has to know (0.3.52 to 0.3.75 are run in its tests)."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import comfy.k_diffusion.sampling
import comfy.latent_formats
import comfy.samplers
from comfy.cli_args import LatentPreviewMethod, args
from torch import Tensor

logger = logging.getLogger(__name__)


@lru_cache(maxsize=16)
def takes_options(function: Callable[..., Tensor]) -> bool:
    """Whether an attention takes `transformer_options`; those before 0.3.60 do not."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.kind is p.VAR_KEYWORD or p.name == "transformer_options" for p in parameters)


def prepare_state(patcher: Any, timestep: Tensor, options: dict[str, Any]) -> None:
    """Tells the callbacks of other nodes that a step begins; versions since 0.3.76 hand them the run's options."""
    if "model_options" in inspect.signature(patcher.prepare_state).parameters:
        patcher.prepare_state(timestep, options)
    else:
        patcher.prepare_state(timestep)


def register_sampler(name: str, sampler: Callable[..., Tensor], scheduler: Callable[..., Tensor]) -> None:
    """Adds `name` to the sampler and scheduler lists of the stock nodes; there is no public way. Can be repeated.

    Of two copies of the pack the later one wins, here as with the nodes; the log says so.
    """
    older = getattr(comfy.k_diffusion.sampling, f"sample_{name}", None)
    if older is not None and older.__module__ != sampler.__module__:
        ours, theirs = (str(Path(sys.modules[f.__module__].__file__ or "").parents[2]) for f in (sampler, older))
        logger.warning("aMUSEd: the pack is there twice; %r takes the place of %r. Remove one.", ours, theirs)
    setattr(comfy.k_diffusion.sampling, f"sample_{name}", sampler)
    comfy.samplers.SCHEDULER_HANDLERS[name] = comfy.samplers.SchedulerHandler(scheduler)
    stock = comfy.samplers
    lists = (stock.KSAMPLER_NAMES, stock.SAMPLER_NAMES, stock.SCHEDULER_NAMES)
    for names in (*lists, stock.KSampler.SAMPLERS, stock.KSampler.SCHEDULERS):
        if name not in names:
            names.append(name)


@contextmanager
def no_vae_warning() -> Iterator[None]:
    """Keeps `comfy.sd.VAE` from reporting that no weights were found: ours are set right after it."""

    def passes(record: logging.LogRecord) -> bool:
        return "No VAE weights" not in record.getMessage()

    logger = logging.getLogger()
    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


def decoded_previews() -> bool:
    """Whether ComfyUI is set to its good previews ("taesd"), and asks a latent format how to make them.

    The setting is read anew each time: later versions change it with every prompt. Versions before the `reshape` of
    colour factors show the cheap preview.
    """
    asks = hasattr(comfy.latent_formats.LatentFormat, "latent_rgb_factors_reshape")
    return asks and args.preview_method == LatentPreviewMethod.TAESD
