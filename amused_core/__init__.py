"""aMUSEd without ComfyUI: load a model, generate pictures, look inside.

from amused_core import load_model
model = load_model()
result = model.generate("a red apple on a blue background")
"""

from .errors import AmusedError, AttentionError, CheckpointError
from .model import AmusedModel, Result, load_model
from .sampling.loop import Step

__all__ = ["AmusedError", "AmusedModel", "AttentionError", "CheckpointError", "Result", "Step", "load_model"]
