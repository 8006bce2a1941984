"""What the config files of a checkpoint say, and whether its parts fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError, quoted
from ..networks.uvit.config import MOST_LAYERS
from ..sampling.schedule import SCHEDULES


def read_scheduler(config: Mapping[str, Any], transformer: Any) -> tuple[int, str]:
    """Mask token id and masking schedule of an `AmusedScheduler`'s config.

    Raises:
        CheckpointError: an id that is no mask token of the transformer, or an unknown schedule.
    """
    mask_token_id, schedule = config.get("mask_token_id"), config.get("masking_schedule", "cosine")
    if transformer.vocab_size == transformer.codebook_size:
        raise CheckpointError(
            f"vocab_size {transformer.vocab_size} must be larger than codebook_size {transformer.codebook_size}: "
            "one id is the mask token."
        )
    whole = isinstance(mask_token_id, int) and not isinstance(mask_token_id, bool)
    if not whole or not transformer.codebook_size <= mask_token_id < transformer.vocab_size:
        raise CheckpointError(
            f"The scheduler's mask_token_id is {quoted(mask_token_id)}; allowed are {transformer.codebook_size} to "
            f"{transformer.vocab_size - 1}, the ids above the transformer's codebook."
        )
    if not isinstance(schedule, str) or schedule not in SCHEDULES:
        raise CheckpointError(
            f"The scheduler's masking_schedule is {quoted(schedule)}; allowed are {', '.join(SCHEDULES)}."
        )
    return mask_token_id, schedule


def read_factor(vqvae: Mapping[str, Any]) -> int:
    """Pixels per side of a token's cell, from a `VQModel`'s config: one halving between two blocks.

    Raises:
        CheckpointError: a config of no token decoder.
    """
    blocks = vqvae.get("block_out_channels")
    if not isinstance(blocks, (list, tuple)) or not blocks:
        raise CheckpointError(
            f"The vqvae's block_out_channels is {quoted(blocks)}; it must be a list of channel counts."
        )
    # `VQModel` would hand the decoder the ids of the codes, not the codes.
    if vqvae.get("lookup_from_codebook") is not True:
        raise CheckpointError(
            f"The vqvae's lookup_from_codebook is {quoted(vqvae.get('lookup_from_codebook'))}; allowed is true."
        )
    return 2 ** (len(blocks) - 1)


def check_layers(vqvae: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Raises `CheckpointError` where a part would have so many layers that building it takes minutes."""
    for part, key, layers in (
        ("vqvae", "layers_per_block", vqvae.get("layers_per_block")),
        ("text_encoder", "num_hidden_layers", text.get("num_hidden_layers")),
    ):
        if isinstance(layers, int) and layers > MOST_LAYERS:
            raise CheckpointError(f"The {part}'s {key} is {quoted(layers)}; allowed are up to {MOST_LAYERS}.")


def check_fit(transformer: Any, vqvae: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Raises `CheckpointError` unless VQ and text encoder have the sizes that the transformer was made for."""
    for ours, theirs, found in (
        ("codebook_size", "vqvae's num_vq_embeddings", vqvae.get("num_vq_embeddings")),
        ("encoder_hidden_size", "text_encoder's hidden_size", text.get("hidden_size")),
        ("cond_embed_dim", "text_encoder's projection_dim", text.get("projection_dim")),
    ):
        wanted = getattr(transformer, ours)
        if found != wanted:
            raise CheckpointError(f"The {theirs} is {quoted(found)}, but the transformer's {ours} is {wanted}.")
