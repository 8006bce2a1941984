"""Adapters from `amused_core` to ComfyUI: the only place of the pack that imports `comfy`."""

from . import compat
from .load import folders
from .sample.sampler import sample_amused
from .sample.scheduler import amused_scheduler


def register() -> None:
    """Makes the model folder and the sampler and schedule named "amused" known to ComfyUI; may be called again."""
    folders.register()
    compat.register_sampler("amused", sample_amused, amused_scheduler)
