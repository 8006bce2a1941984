"""What the pack knows of a family of masked image models, in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..networks.transformer import Transformer


@dataclass(frozen=True, eq=False)
class Family:
    """A family of models that share their classes; see `Transformer` for what the sampler asks of its network.

    A family has a CLIP text encoder and diffusers' `VQModel`; LoRA weights are named after the transformer's state
    dict.

    Attributes:
        name: for people.
        pipeline: diffusers' pipeline class.
        classes: class name of each part in its config: "transformer", "vqvae", "scheduler". That of the transformer
            tells families apart.
        read_config: diffusers' config of the transformer to the object that `transformer` takes. It has at least
            `codebook_size`, `vocab_size`, `sample_size`, and `encoder_hidden_size` and `cond_embed_dim`, the widths of
            the text encoder's hidden states and of its projection.
        transformer: the network, `(config, layers, attend, device) -> nn.Module`; see `networks.layers` and
            `networks.attention`.
        recommended: sampling settings for a config whose checkpoint names none.
    """

    name: str
    pipeline: str
    classes: Mapping[str, str]
    read_config: Callable[[Mapping[str, Any]], Any]
    transformer: Callable[..., Transformer]
    recommended: Callable[[Any], dict[str, Any]]
