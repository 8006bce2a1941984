"""Checkpoints on disk: a folder in diffusers' layout, or one `.safetensors` file that carries its configs."""

from .contents import Checkpoint, Source
from .disk import EMBEDDED, is_checkpoint, open_checkpoint, save_checkpoint

__all__ = ["EMBEDDED", "Checkpoint", "Source", "is_checkpoint", "open_checkpoint", "save_checkpoint"]
