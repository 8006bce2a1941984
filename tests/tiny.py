"""Tiny random checkpoints in diffusers' layout, written by diffusers and transformers themselves."""

from __future__ import annotations

import json
from pathlib import Path

import torch

CODES, MASK_ID, FACTOR = 64, 71, 4


def write_tiny_checkpoint(folder: Path, downsample: bool = False, seed: int = 0, factor: int = FACTOR) -> Path:
    """A whole model with random weights: 64 codes, 8x8 tokens, the 256 shape or (`downsample`) the 512 shape."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        write_tokenizer(folder / "tokenizer")
        tiny_transformer(downsample).save_pretrained(folder / "transformer")
        tiny_vq(factor).save_pretrained(folder / "vqvae")
        tiny_text_encoder().save_pretrained(folder / "text_encoder")
    scheduler = {"_class_name": "AmusedScheduler", "mask_token_id": MASK_ID, "masking_schedule": "cosine"}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    index = {
        "_class_name": "AmusedPipeline",
        "scheduler": ["diffusers", "AmusedScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "transformer": ["diffusers", "UVit2DModel"],
        "vqvae": ["diffusers", "VQModel"],
    }
    write_json(folder / "model_index.json", index)
    return folder


def tiny_transformer(downsample: bool = False):
    """A `UVit2DModel` whose weights are large enough for the logits to differ clearly."""
    from diffusers import UVit2DModel

    model = UVit2DModel(
        hidden_size=32,
        cond_embed_dim=32,
        micro_cond_encode_dim=16,
        micro_cond_embed_dim=80,
        encoder_hidden_size=32,
        vocab_size=MASK_ID + 1,
        codebook_size=CODES,
        in_channels=32,
        block_out_channels=32,
        num_res_blocks=1,
        downsample=downsample,
        upsample=downsample,
        block_num_heads=2,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        sample_size=8,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def tiny_vq(factor: int = FACTOR):
    """A `VQModel` with 64 spread-out codes and `factor` pixels per token side (a power of two)."""
    from diffusers import VQModel

    blocks = factor.bit_length()
    model = VQModel(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(8,) * blocks,
        latent_channels=8,
        num_vq_embeddings=CODES,
        norm_num_groups=4,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
        force_upcast=True,
    )
    torch.nn.init.normal_(model.quantize.embedding.weight)
    return model


def tiny_text_encoder():
    """A 3-layer `CLIPTextModelWithProjection` of width 32 for the vocabulary of `write_tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    size = len(vocabulary())
    config = CLIPTextConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=32,
        vocab_size=size,
        max_position_embeddings=24,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    model = CLIPTextModelWithProjection(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def vocabulary() -> dict[str, int]:
    """CLIP's byte alphabet, alone and at a word's end, and the two special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {word: index for index, word in enumerate(words)}


def write_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer without merges: every byte is a token."""
    write_json(folder / "vocab.json", vocabulary())
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    special["pad_token"] = "<|endoftext|>"
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json", {**special, "model_max_length": 24, "tokenizer_class": "CLIPTokenizer"}
    )


def write_json(file: Path, content: dict) -> None:
    """Writes `content`, making the folder first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
