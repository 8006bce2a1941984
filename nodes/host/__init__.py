"""Adapters from `amused_core` to ComfyUI: the only place of the pack that imports `comfy`."""

from . import compat, folders, sampling


def register() -> None:
    """Makes the model folder and the sampler and schedule named "amused" known to ComfyUI; may be called again."""
    folders.register()
    compat.register_sampler("amused", sampling.sample_amused, sampling.amused_scheduler)
