"""Every difference between ComfyUI versions that the pack has to know; `borrowed` lists what it takes of them.

Run in its tests, on 2026-11-26: 0.3.52, 0.3.75 and 0.33.0.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import comfy.k_diffusion.sampling
import comfy.latent_formats
import comfy.model_management
import comfy.samplers
import comfy.sd
from comfy.cli_args import LatentPreviewMethod, args
from torch import Tensor, device

from ...amused_core.errors import AmusedError
from . import borrowed
from .origin import module_of

T = TypeVar("T")
# What comes of a symbol, an attribute or an argument that another ComfyUI may lack.
INCOMPATIBLE = (AttributeError, ImportError, LookupError, TypeError, ValueError)
logger = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def fast_path_problem() -> str | None:
    """Why this ComfyUI has no fast way for plain prompts, or None."""
    found = (borrowed.problem(entry) for entries in borrowed.FAST.values() for entry in entries)
    return next((problem for problem in found if problem), None)


def try_fast_path(way: Callable[..., T | None], *args: Any) -> T | None:
    """What a faster way makes of ComfyUI's objects; None where it does not apply, or where they are unlike expected.

    The log says once why. Nothing that another version changes raises here: the run takes the stock path.
    """
    reason = fast_path_problem()
    if reason is None:
        try:
            return way(*args)
        except AmusedError:
            raise
        except INCOMPATIBLE as error:
            reason = f"{type(error).__name__}: {error}"
    _log_once(reason)
    return None


@lru_cache(maxsize=16)
def _log_once(reason: str) -> None:
    logger.warning(
        "aMUSEd: sampling takes the slower stock path, because this ComfyUI is not supported by the fast one (%s).",
        reason,
    )


@lru_cache(maxsize=16)
def takes_options(function: Callable[..., Tensor]) -> bool:
    """Whether an attention takes `transformer_options`; those before 0.3.60 do not."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.kind is p.VAR_KEYWORD or p.name == "transformer_options" for p in parameters)


def prepare_state(patcher: Any, timestep: Tensor, options: dict[str, Any]) -> None:
    """Tells the callbacks of other nodes that a step begins; newer versions hand them the run's options."""
    if "model_options" in inspect.signature(patcher.prepare_state).parameters:
        patcher.prepare_state(timestep, options)
    else:
        patcher.prepare_state(timestep)


def free_memory(patcher: Any, where: device) -> float:
    """Bytes that ComfyUI counts as free for a run; newer versions ask the MODEL, which knows what else can go."""
    ask = getattr(patcher, "get_free_memory", comfy.model_management.get_free_memory)
    return ask(where)


def make_clip(target: Any, **kw: Any) -> comfy.sd.CLIP:
    """A CLIP whose weights are loaded the classic way.

    What newer versions do on some cards (dynamic VRAM) wants to load a CLIP anew from its file by functions of its own.
    """
    classic = "disable_dynamic" in inspect.signature(comfy.sd.CLIP).parameters
    return comfy.sd.CLIP(target, **kw, **({"disable_dynamic": True} if classic else {}))


def patch_weight(patcher: Any, key: str) -> None:
    """Patches one weight where it is; it gets its old value back when the model is unloaded."""
    if hasattr(patcher, "unpin_weight"):
        patcher.unpin_weight(key)
    patcher.patch_weight_to_device(key)


def register_sampler(name: str, sampler: Callable[..., Tensor], scheduler: Callable[..., Tensor]) -> None:
    """Adds `name` to the sampler and scheduler lists of the stock nodes; there is no public way. Can be repeated.

    Of two copies of the pack the later one wins, here as with the nodes; the log says so.
    """
    older = getattr(comfy.k_diffusion.sampling, f"sample_{name}", None)
    if older is not None and module_of(older) != module_of(sampler):
        ours, theirs = (str(Path(sys.modules[module_of(f)].__file__ or "").parents[2]) for f in (sampler, older))
        logger.warning("aMUSEd: the pack is installed twice; %r replaces %r. Remove one of them.", ours, theirs)
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
