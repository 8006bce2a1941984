"""LoRAs: reading their formats, finding the weights they change, and merging them."""

from .file import LoraFile, read_lora
from .fit import Lora, fit
from .merge import Loras

__all__ = ["Lora", "LoraFile", "Loras", "fit", "read_lora"]
