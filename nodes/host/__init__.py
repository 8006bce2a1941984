"""Adapters from `amused_core` to ComfyUI: the only place of the pack that imports `comfy`."""

from . import compat, folders
from .sampling import sample_amused
from .scheduler import amused_scheduler


def register() -> None:
    """Makes the model folder and the sampler and schedule named "amused" known to ComfyUI; may be called again."""
    folders.register()
    compat.register_sampler("amused", sample_amused, amused_scheduler)
