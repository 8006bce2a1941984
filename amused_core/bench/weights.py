"""Checkpoints to measure: random weights in the sizes of the published models, and weights that both sides share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import Checkpoint, Source, open_checkpoint
from ..families.published import PUBLISHED


class RandomSource:
    """Seeded random weights in diffusers' layout, of the sizes of amused-256 or amused-512 ("256", "512")."""

    def __init__(self, shape: str, seed: int, dtype: torch.dtype = torch.float32) -> None:
        self._configs = PUBLISHED[f"amused-{shape}"]
        self._seed = seed
        self._dtype = dtype

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`."""
        return dict(self._configs[part])

    def state(self, part: str) -> dict[str, Tensor]:
        """Matrices and kernels normal with the variance 1 / fan-in, gains of norms 1, biases 0; the VQ in fp32."""
        generator = torch.Generator().manual_seed(self._seed)
        return {name: _filled(name, v.shape, generator).to(v.dtype) for name, v in self.layout(part).items()}

    def layout(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        dtype = torch.float32 if part == "vqvae" else self._dtype
        with torch.device("meta"):
            return {name: v.to(dtype) for name, v in _module(part, self.config(part)).state_dict().items()}

    def tokenizer(self) -> Any:
        """That of the model that ships here, padding to CLIP's 77 tokens: which ids there are changes no cost."""
        tokenizer = open_checkpoint().tokenizer()
        tokenizer.model_max_length = self._configs["text_encoder"]["max_position_embeddings"]
        return tokenizer

    def extra(self) -> dict[str, Any]:
        """See `Source`."""
        return {}


class SharedSource:
    """Another source, its weights read once: every module that is built from it holds the same memory."""

    def __init__(self, source: Source | Checkpoint, dtype: torch.dtype) -> None:
        self._source = source
        self._dtype = dtype
        self._states: dict[str, dict[str, Tensor]] = {}

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`."""
        return self._source.config(part)

    def state(self, part: str) -> dict[str, Tensor]:
        """In the dtype of the bench, the VQ in fp32."""
        if part not in self._states:
            dtype = torch.float32 if part == "vqvae" else self._dtype
            state = self._source.state(part)
            self._states[part] = {name: _cast(value, dtype) for name, value in state.items()}
        return self._states[part]

    def layout(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        return {name: value.to("meta") for name, value in self.state(part).items()}

    def tokenizer(self) -> Any:
        """See `Source`."""
        return self._source.tokenizer()

    def extra(self) -> dict[str, Any]:
        """See `Source`."""
        return self._source.extra()


def shared_checkpoint(path: str | None, shape: str | None, seed: int, dtype: torch.dtype) -> Checkpoint:
    """The checkpoint at `path`, or random weights of `shape`, ready to be shared."""
    if shape is not None:
        return Checkpoint(Path(f"random-{shape}"), SharedSource(RandomSource(shape, seed, dtype), dtype))
    checkpoint = open_checkpoint(path)
    return Checkpoint(checkpoint.path, SharedSource(checkpoint, dtype))


def _module(part: str, config: dict[str, Any]) -> torch.nn.Module:
    from diffusers import UVit2DModel, VQModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    if part == "text_encoder":
        return CLIPTextModelWithProjection(CLIPTextConfig(**config))
    return (UVit2DModel if part == "transformer" else VQModel).from_config(config)


def _filled(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    fan_in = shape.numel() / shape[0]
    return torch.empty(shape).normal_(0, fan_in**-0.5, generator=generator)


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """What is no floating-point number stays, and will be refused."""
    return value.to(dtype) if value.is_floating_point() else value
