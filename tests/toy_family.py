"""A second family, as somebody else would add it: a transformer of its own, and a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from amused_core.networks.attention import sdpa
from amused_core.networks.layers import TORCH_LAYERS
from tests.tiny import CODES, MASK_ID, write_json, write_tiny_checkpoint

CLASS = "ToyTransformer2DModel"


@dataclass(frozen=True)
class ToyConfig:
    """Sizes."""

    hidden_size: int = 32
    codebook_size: int = CODES
    vocab_size: int = MASK_ID + 1
    sample_size: int = 8
    encoder_hidden_size: int = 32
    cond_embed_dim: int = 32

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ToyConfig:
        """Reads a config."""
        return cls(**{field.name: config[field.name] for field in fields(cls) if field.name in config})


class ToyCondition(NamedTuple):
    """The prompt."""

    text: Tensor
    pooled: Tensor


class Toy(nn.Module):
    """One attention to the text, no convolution; looks at the progress of the run."""

    def __init__(self, config: ToyConfig, layers: Any = TORCH_LAYERS, attend: Any = sdpa, device: Any = None) -> None:
        super().__init__()
        dim = config.hidden_size
        self.config, self.attend = config, attend
        self.embed = layers.Embedding(config.vocab_size, dim, device=device)
        self.text = layers.Linear(config.encoder_hidden_size, dim, device=device)
        self.pooled = layers.Linear(config.cond_embed_dim, dim, device=device)
        self.mix = layers.Linear(dim, dim, device=device)
        self.head = layers.Linear(dim, config.codebook_size, bias=False, device=device)

    device = property(lambda self: self.mix.weight.device)
    dtype = property(lambda self: self.mix.weight.dtype)

    def condition(self, hidden: Tensor, pooled: Tensor, micro: Tensor) -> ToyCondition:
        """See `Transformer`."""
        return ToyCondition(self.text(hidden), self.pooled(pooled))

    def features(self, tokens: Tensor, condition: ToyCondition, progress: Any = None, options: Any = None) -> Tensor:
        """See `Transformer`."""
        x = self.embed(tokens).to(condition.text.dtype).flatten(1, 2)
        x = self.mix(x + self.attend(x, condition.text, condition.text, 2, "attn2", options or {}))
        x = x + condition.pooled[:, None] * progress.ratio
        return x.view(*tokens.shape, -1)

    def logits(self, features: Tensor) -> Tensor:
        """See `Transformer`."""
        return self.head(features)

    def runs_once(self, name: str) -> bool:
        """See `Transformer`."""
        return name in ("text", "pooled")

    def row_bytes(self, tokens: Tensor) -> int:
        """See `Transformer`."""
        return tokens[0].numel() * self.config.hidden_size * 4


def register(families: ModuleType) -> None:
    """Makes the family known to a copy of `amused_core.families`."""
    families.FAMILIES[CLASS] = families.Family(
        name="Toy",
        pipeline="ToyPipeline",
        classes={"transformer": CLASS, "vqvae": "VQModel", "scheduler": "AmusedScheduler"},
        read_config=ToyConfig.from_dict,
        transformer=Toy,
        recommended=lambda config: {"cfg": 2.0, "steps": 5},
    )


def write_toy_checkpoint(folder: Path) -> Path:
    """A checkpoint of the family with random weights."""
    write_tiny_checkpoint(folder)
    for file in (folder / "transformer").iterdir():
        file.unlink()
    weights = Toy(ToyConfig()).state_dict()
    draw = torch.Generator().manual_seed(0)
    weights = {key: torch.randn(value.shape, generator=draw) * 0.15 for key, value in weights.items()}
    save_file(weights, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    write_json(folder / "transformer" / "config.json", {"_class_name": CLASS, **asdict(ToyConfig())})
    index = json.loads((folder / "model_index.json").read_text())
    write_json(folder / "model_index.json", {**index, "transformer": ["diffusers", CLASS]})
    return folder
