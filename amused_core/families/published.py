"""The configs of the published checkpoints amused-256 and amused-512, part by part."""

from __future__ import annotations

from typing import Any

_TRANSFORMER: dict[str, Any] = {
    "_class_name": "UVit2DModel",
    "hidden_size": 1024,
    "use_bias": False,
    "hidden_dropout": 0.0,
    "cond_embed_dim": 768,
    "micro_cond_encode_dim": 256,
    "micro_cond_embed_dim": 1280,
    "encoder_hidden_size": 768,
    "vocab_size": 8256,
    "codebook_size": 8192,
    "in_channels": 768,
    "block_out_channels": 768,
    "num_res_blocks": 3,
    "block_num_heads": 12,
    "num_hidden_layers": 22,
    "num_attention_heads": 16,
    "attention_dropout": 0.0,
    "intermediate_size": 2816,
    "layer_norm_eps": 1e-6,
    "ln_elementwise_affine": True,
}
_VQVAE: dict[str, Any] = {
    "_class_name": "VQModel",
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 5,
    "up_block_types": ["UpDecoderBlock2D"] * 5,
    "block_out_channels": [128, 256, 256, 512, 768],
    "layers_per_block": 2,
    "act_fn": "silu",
    "latent_channels": 64,
    "num_vq_embeddings": 8192,
    "norm_num_groups": 32,
    "mid_block_add_attention": False,
    "lookup_from_codebook": True,
    "force_upcast": True,
}
# CLIP ViT-L/14; with the eos id 2 the pooled output is taken at the largest id, as in the published models.
_TEXT: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
_SCHEDULER: dict[str, Any] = {
    "_class_name": "AmusedScheduler",
    "mask_token_id": 8255,
    "masking_schedule": "cosine",
}


def _published(side: int, down: bool) -> dict[str, dict[str, Any]]:
    transformer = {**_TRANSFORMER, "downsample": down, "upsample": down, "sample_size": side}
    return {"transformer": transformer, "vqvae": _VQVAE, "text_encoder": _TEXT, "scheduler": _SCHEDULER}


PUBLISHED = {"amused-256": _published(16, down=False), "amused-512": _published(32, down=True)}
