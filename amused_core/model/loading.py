"""From a checkpoint to modules: weights are checked, then assigned without a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoint import Checkpoint
from ..errors import CheckpointError, one_line
from ..networks.attention import Attend, sdpa
from ..networks.kernels import keep_memory
from ..networks.layers import TORCH_LAYERS, Layers
from ..networks.text import Text
from ..networks.transformer import Transformer
from ..networks.vq import VQ


def build_transformer(
    checkpoint: Checkpoint,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    layers: Layers = TORCH_LAYERS,
    attend: Attend = sdpa,
) -> Transformer:
    """The transformer with its weights, in eval mode. `dtype` None keeps the stored one (and a memory map)."""
    model = checkpoint.family.transformer(checkpoint.transformer_config, layers, attend, device="meta")
    load_state(model, checkpoint.state("transformer"), "transformer", checkpoint.path)
    return model.eval().to(device=device, dtype=dtype)


def build_vq(checkpoint: Checkpoint, device: torch.device | str = "cpu") -> VQ:
    """diffusers' `VQModel` with its weights, always fp32: the decoder overflows in fp16 (diffusers#5437)."""
    module = blank_module(checkpoint, "vqvae")
    load_state(module, checkpoint.state("vqvae"), "vqvae", checkpoint.path)
    return VQ(nn.Module.to(module.eval(), device, torch.float32))


def build_text(checkpoint: Checkpoint, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Text:
    """transformers' `CLIPTextModelWithProjection` with its weights and tokenizer, in eval mode."""
    module = blank_module(checkpoint, "text_encoder")
    # Older checkpoints store this constant buffer; newer transformers versions rebuild it.
    stored = checkpoint.state("text_encoder").items()
    kept = {key: value for key, value in stored if not key.endswith("position_ids")}
    load_state(module, kept, "text_encoder", checkpoint.path)
    del stored, kept  # Where it is cast, both forms of all weights would be there at a time.
    for owner in module.modules():
        if getattr(owner, "position_ids", None) is not None:
            owner.position_ids = torch.arange(module.config.max_position_embeddings)[None]
    tokenizer = checkpoint.tokenizer()
    size = module.config.vocab_size
    entries = 1 + max(tokenizer.get_vocab().values(), default=0)
    if entries > size:
        raise CheckpointError(f"The tokenizer has {entries} entries, but the text_encoder's vocab_size is {size}.")
    return Text(module.eval().to(device=device, dtype=dtype), tokenizer)


def blank_module(checkpoint: Checkpoint, part: str) -> Any:
    """The module of "transformer", "vqvae" or "text_encoder" without weights, on the meta device.

    Raises:
        CheckpointError: its config does not describe one.
    """
    config = checkpoint.config(part)
    if part == "text_encoder":
        return _construct(checkpoint, part, lambda: _text_module(config))
    if part == "vqvae":
        from diffusers import VQModel

        return _construct(checkpoint, part, lambda: VQModel.from_config(config))
    return checkpoint.family.transformer(checkpoint.transformer_config, TORCH_LAYERS, sdpa, device="meta")


def _construct(checkpoint: Checkpoint, part: str, make: Callable[[], Any]) -> Any:
    """A module without weights; whatever a damaged config makes its class raise becomes one sentence."""
    try:
        with torch.device("meta"), torch.no_grad():
            return make()
    except Exception as error:
        message = f"The {part}'s config does not describe a model ({part}/config.json of {str(checkpoint.path)!r}): "
        raise CheckpointError(f"{message}{one_line(error)}.") from error


def _text_module(config: dict[str, Any]) -> Any:
    """transformers' text encoder; a config may be taken, and yet fail when the encoder runs, so it runs once."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    module = CLIPTextModelWithProjection(CLIPTextConfig(**config))
    module(torch.zeros(1, module.config.max_position_embeddings, dtype=torch.int64))
    return module


def load_state(module: nn.Module, state: dict[str, Tensor], part: str, path: Path) -> None:
    """Assigns `state` to `module` without a copy, after checking that it is complete, fits and holds numbers.

    `part` of the checkpoint at `path` is what a refusal names.

    Raises:
        CheckpointError: missing or unexpected keys, wrong shapes, NaN or infinite weights.
    """
    expected = {key: value.shape for key, value in module.state_dict().items()}
    shapes = [
        f"{key} ({list(state[key].shape)} instead of {list(shape)})"
        for key, shape in expected.items()
        if key in state and state[key].shape != shape
    ]
    found = {
        "lacks the weights": [key for key in expected if key not in state],
        "has unexpected weights": [key for key in state if key not in expected],
        "has weights of another shape than its config says": shapes,
        "has weights that are no floating-point numbers:": [
            f"{key} ({value.dtype})" for key, value in state.items() if not value.is_floating_point()
        ],
        "has NaN or infinite values in": [
            key for key, value in state.items() if value.is_floating_point() and not _finite(value)
        ],
    }
    for problem, items in found.items():
        if items:
            more = f" and {len(items) - 3} more" if len(items) > 3 else ""
            raise CheckpointError(f"{path}: the {part} {problem} {', '.join(items[:3])}{more}.")
    module.load_state_dict(state, assign=True)
    module.requires_grad_(False)
    keep_memory()


def _finite(value: Tensor) -> bool:
    # One pass without a temporary; the sum of finite weights does not overflow fp32 unless one is out of all bounds.
    return bool(torch.isfinite(value.sum(dtype=torch.float32))) or bool(torch.isfinite(value).all())
