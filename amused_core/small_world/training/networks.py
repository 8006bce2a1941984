"""The U-ViT and the text encoder of the embedded model, with seeded initial weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ...networks.attention import sdpa
from ...networks.uvit import UVit
from ...networks.uvit.config import UVitConfig
from .tokenizer import MAX_LENGTH

CODES, MASK_ID = 1024, 1024
TRANSFORMER_CONFIG: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "intermediate_size": 512,
    "block_out_channels": 160,
    "in_channels": 128,
    "num_res_blocks": 4,
    "downsample": True,
    "upsample": True,
    "block_num_heads": 4,
    "num_attention_heads": 4,
    "encoder_hidden_size": 128,
    "cond_embed_dim": 128,
    "micro_cond_encode_dim": 32,
    "micro_cond_embed_dim": 160,
    "vocab_size": 1032,
    "codebook_size": CODES,
    "sample_size": 16,
}
TEXT_CONFIG: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "projection_dim": 128,
    "max_position_embeddings": MAX_LENGTH,
}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the networks: configs of diffusers' `UVit2DModel` and of the text encoder, and the mask token."""

    transformer: dict[str, Any] = field(default_factory=lambda: TRANSFORMER_CONFIG)
    text_encoder: dict[str, Any] = field(default_factory=lambda: TEXT_CONFIG)
    mask_id: int = MASK_ID


# Layers that steer the whole trunk: they start at zero and learn slowly, or they drown the position signal.
_CONDITIONING = ("cond_embeds_mapper", "norm1.linear", "norm2.linear", "norm3.linear")
_BRANCH_ENDS = ("to_out.0", "ff.net.2", "channelwise_linear_2", "out_proj", "mlp.fc2")


@torch.no_grad()
def init_weights(model: nn.Module, generator: Generator) -> None:
    """Seeded weights: torch's uniform rule, the ends of residual branches at 0.2 of it, conditioning at zero."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            fan_in = module.weight[:, 0].numel() if isinstance(module, nn.ConvTranspose2d) else module.weight[0].numel()
            scale = 0.0 if name.endswith(_CONDITIONING) else 0.2 if name.endswith(_BRANCH_ENDS) else 1.0
            bound = scale * fan_in**-0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0, 0.1 if "position" in name else 0.5, generator=generator)


def build_transformer(generator: Generator, config: dict[str, Any] = TRANSFORMER_CONFIG) -> UVit:
    """Our U-ViT with `config`, which has the names of diffusers' `UVit2DModel`."""
    model = UVit(UVitConfig.from_dict(config), attend=_attend_fp32)
    init_weights(model, generator)
    return model


def _attend_fp32(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
    """Attention in fp32 under autocast: its bf16 backward pass is seven times slower on CPUs."""
    with torch.autocast("cpu", enabled=False):
        return sdpa(q.float(), k.float(), v.float(), *rest)


def build_text_encoder(tokenizer: Any, generator: Generator, config: dict[str, Any] = TEXT_CONFIG) -> nn.Module:
    """transformers' `CLIPTextModelWithProjection` with `config`, for the ids of `tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    special |= {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    model = CLIPTextModelWithProjection(CLIPTextConfig(**config, **special))
    init_weights(model, generator)
    return model


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Two optimizer groups: everything, and the conditioning layers at a tenth of the learning rate (`scale`)."""
    slow = [p for n, p in model.named_parameters() if n.startswith("cond_embed.") or any(k in n for k in _CONDITIONING)]
    ids = {id(p) for p in slow}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in ids]
    return [{"params": rest, "scale": 1.0}, {"params": slow, "scale": 0.1}]
