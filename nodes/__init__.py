"""The nodes of the pack. They only declare; the work is in `host` (ComfyUI) and `amused_core`."""

from comfy_api.latest import ComfyExtension, io

from . import host
from .batch import AmusedBatch, AmusedRows
from .encode import AmusedMicroConditioning, AmusedTextEncode
from .inpaint import AmusedInpaintComposite, AmusedInpaintMask
from .insight import AmusedTokenGrid, AmusedTrace, AmusedTraceFrames, AmusedTraceMap, AmusedWordAttention
from .latent import AmusedEmptyLatent
from .load import AmusedLoader
from .lora import AmusedLoraLoader
from .sample import AmusedSampler, AmusedSamplerSelect, AmusedScheduler
from .save import AmusedSaveModel
from .speed import AmusedSpeed
from .tokens import AmusedLoadTokens, AmusedSaveTokens
from .train import AmusedTrainLora
from .vq import AmusedVQDecode, AmusedVQEncode


class AmusedExtension(ComfyExtension):
    """What ComfyUI asks for the pack's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes, in the order of the menu."""
        return [
            AmusedLoader,
            AmusedLoraLoader,
            AmusedTextEncode,
            AmusedMicroConditioning,
            AmusedEmptyLatent,
            AmusedSampler,
            AmusedSamplerSelect,
            AmusedScheduler,
            AmusedVQEncode,
            AmusedVQDecode,
            AmusedInpaintMask,
            AmusedInpaintComposite,
            AmusedTrace,
            AmusedTraceFrames,
            AmusedTraceMap,
            AmusedWordAttention,
            AmusedTokenGrid,
            AmusedSaveModel,
            AmusedSaveTokens,
            AmusedLoadTokens,
            AmusedTrainLora,
            AmusedBatch,
            AmusedRows,
            AmusedSpeed,
        ]


async def comfy_entrypoint() -> AmusedExtension:
    """ComfyUI's way in. Registers here, because older versions never call `ComfyExtension.on_load`."""
    host.register()
    return AmusedExtension()
