"""Tiny networks, tokens and pictures for the tests of the small world's training."""

from __future__ import annotations

import torch

from amused_core.sampling.step_generator import step_generator
from amused_core.small_world.scenes.things import BACKGROUNDS, THINGS
from amused_core.small_world.training import tokens, vq
from amused_core.small_world.training.masked import MaskedTrainer
from amused_core.small_world.training.networks import ModelConfig
from amused_core.small_world.training.tokenizer import MAX_LENGTH

TINY_TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "intermediate_size": 32,
    "block_out_channels": 16,
    "in_channels": 16,
    "num_res_blocks": 1,
    "downsample": True,
    "upsample": True,
    "block_num_heads": 2,
    "num_attention_heads": 2,
    "encoder_hidden_size": 16,
    "cond_embed_dim": 16,
    "micro_cond_encode_dim": 4,
    "micro_cond_embed_dim": 20,
    "vocab_size": 40,
    "codebook_size": 32,
    "sample_size": 4,
}
TINY_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "projection_dim": 16,
    "max_position_embeddings": MAX_LENGTH,
}
TINY_VQ = vq.VQ_CONFIG | {
    "block_out_channels": [8, 8, 8, 16],
    "num_vq_embeddings": 32,
    "latent_channels": 4,
    "vq_embed_dim": 4,
}


def tiny_tokens() -> tokens.SceneTokens:
    """Random tokens below 32 for every thing, with a border of background."""
    generator = step_generator(5, 0)
    large, small = (torch.randint(32, (len(THINGS), side, side), generator=generator) for side in (14, 8))
    large[:, 0], small[:, 0] = tokens.EMPTY, tokens.EMPTY
    return tokens.SceneTokens(large, small, torch.arange(len(BACKGROUNDS)))


def tiny_trainer(seed: int = 0, batch: int = 4, workers: int = 1) -> MaskedTrainer:
    """Tiny networks on `tiny_tokens`."""
    config = ModelConfig(TINY_TRANSFORMER, TINY_TEXT, mask_id=32)
    return MaskedTrainer(tiny_tokens(), config, batch=batch, seed=seed, workers=workers)


def squares() -> torch.Tensor:
    """Stand-ins for emoji: opaque colour squares, uint8 RGBA `[3, 4, 112, 112]`."""
    rgba = torch.zeros(3, 4, 112, 112, dtype=torch.uint8)
    for index in range(3):
        rgba[index, index, 24:88, 24:88] = 255
        rgba[index, 3, 24:88, 24:88] = 255
    return rgba
