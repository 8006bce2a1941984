"""A model: load it, ask it for images."""

from .facade import AmusedModel, Result, load_model

__all__ = ["AmusedModel", "Result", "load_model"]
