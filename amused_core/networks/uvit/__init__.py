"""The masked-image transformer of aMUSEd (U-ViT), with the state-dict keys of diffusers' `UVit2DModel`."""

from .model import Condition, UVit

__all__ = ["Condition", "UVit"]
