"""Checkpoints on disk: a folder in diffusers' layout, or one `.safetensors` file that carries its configs."""

from .contents import Checkpoint, Source
from .disk import EMBEDDED, open_checkpoint, save_checkpoint

__all__ = ["EMBEDDED", "Checkpoint", "Source", "open_checkpoint", "save_checkpoint"]
