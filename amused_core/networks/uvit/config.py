"""The sizes of a U-ViT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...errors import CheckpointError, quoted

# Far above any model, and what torch can still count; and what takes no minutes to build.
LARGEST, MOST_LAYERS = 2**24, 1000


@dataclass(frozen=True)
class UVitConfig:
    """Fields and defaults of diffusers' `UVit2DModel` (amused-256). Widths are channels, counts are layers or heads."""

    hidden_size: int = 1024
    use_bias: bool = False
    hidden_dropout: float = 0.0
    cond_embed_dim: int = 768
    micro_cond_encode_dim: int = 256
    micro_cond_embed_dim: int = 1280
    encoder_hidden_size: int = 768
    vocab_size: int = 8256
    codebook_size: int = 8192
    in_channels: int = 768
    block_out_channels: int = 768
    num_res_blocks: int = 3
    downsample: bool = False
    upsample: bool = False
    block_num_heads: int = 12
    num_hidden_layers: int = 22
    num_attention_heads: int = 16
    attention_dropout: float = 0.0
    intermediate_size: int = 2816
    layer_norm_eps: float = 1e-6
    ln_elementwise_affine: bool = True
    sample_size: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_field(field.name, getattr(self, field.name), type(field.default))
        if self.hidden_size % self.num_attention_heads:
            raise CheckpointError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads {self.num_attention_heads}."
            )
        if self.block_out_channels % self.block_num_heads:
            raise CheckpointError(
                f"block_out_channels {self.block_out_channels} must be a multiple of "
                f"block_num_heads {self.block_num_heads}."
            )
        if self.vocab_size < self.codebook_size:
            raise CheckpointError(
                f"vocab_size {self.vocab_size} must not be smaller than codebook_size {self.codebook_size}."
            )
        if self.micro_cond_embed_dim != 5 * self.micro_cond_encode_dim:
            raise CheckpointError(
                f"micro_cond_embed_dim {self.micro_cond_embed_dim} must be 5 times micro_cond_encode_dim "
                f"{self.micro_cond_encode_dim}: there are five micro-conditions."
            )
        if self.downsample != self.upsample:
            raise CheckpointError(
                f"downsample is {self.downsample} but upsample is {self.upsample}: both must be the same."
            )

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> UVitConfig:
        """Reads diffusers' config; private keys (`_class_name`, ...) and unknown ones are left out.

        Raises:
            CheckpointError: when the config is of another model class, or its sizes do not fit together.
        """
        name = config.get("_class_name", "UVit2DModel")
        if name != "UVit2DModel":
            raise CheckpointError(f"The transformer's _class_name is {quoted(name)}, but aMUSEd needs 'UVit2DModel'.")
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in config.items() if key in known})


def _check_field(name: str, value: Any, kind: type) -> None:
    """A size must be a whole number from 1, a rate a number from 0 to 1, a switch true or false."""
    if kind is bool:
        fits, allowed = isinstance(value, bool), "true and false"
    elif kind is int:
        most = MOST_LAYERS if name in ("num_hidden_layers", "num_res_blocks") else LARGEST
        fits = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
        allowed = f"whole numbers from 1 to {most}"
    else:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
        allowed = "numbers from 0 to 1"
    if not fits:
        raise CheckpointError(f"The transformer's {name} is {quoted(value)}; allowed are {allowed}.")
