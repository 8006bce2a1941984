"""LoRA files with random weights, in every format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

Factors = dict[str, tuple[Tensor, Tensor]]

# Every kind of layer that a LoRA may change, and both ends of the U-ViT.
UVIT = (
    "encoder_proj",
    "cond_embed.linear_1",
    "embed.conv",
    "down_block.res_blocks.0.channelwise_linear_1",
    "down_block.attention_blocks.0.attn2.to_v",
    "transformer_layers.0.norm1.linear",
    "transformer_layers.0.attn1.to_q",
    "transformer_layers.1.attn2.to_out.0",
    "transformer_layers.1.ff.net.0.proj",
    "mlm_layer.conv2",
)
ATTENTION = ("transformer_layers.0.attn1.to_q", "transformer_layers.1.attn2.to_out.0")
TEXT = (
    "text_model.encoder.layers.0.self_attn.q_proj",
    "text_model.encoder.layers.1.self_attn.out_proj",
    "text_model.encoder.layers.1.mlp.fc1",
)


def factors(module: nn.Module, names: Iterable[str], rank: int = 2, seed: int = 0) -> Factors:
    """Module name -> (down, up), large enough to change tokens."""
    draw, found = torch.Generator().manual_seed(seed), {}
    for name in names:
        out, *inner = module.get_submodule(name).weight.shape
        up = (out, rank, *[1] * (len(inner) - 1))
        found[name] = tuple(0.3 * torch.randn(shape, generator=draw) for shape in ((rank, *inner), up))
    return found


def _dotted(prefix: dict[str, str], down: str, up: str) -> Callable[..., dict[str, Tensor]]:
    def write(part: str, name: str, pair: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        stem = prefix[part] + name
        return {f"{stem}{down}.weight": pair[0], f"{stem}{up}.weight": pair[1]}

    return write


def _kohya(part: str, name: str, pair: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    stem = {"transformer": "lora_unet_", "text_encoder": "lora_te_"}[part] + name.replace(".", "_")
    return {f"{stem}.lora_down.weight": pair[0], f"{stem}.lora_up.weight": pair[1]}


def _processor(part: str, name: str, pair: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """diffusers' attention processors of 2023; only attention could be changed."""
    head, _, tail = name.removesuffix(".0").rpartition(".")
    tail = {"q_proj": "to_q", "out_proj": "to_out"}.get(tail, tail)
    head += ".processor" if part == "transformer" else ""
    stem = f"{part}.{head}.{tail}_lora"
    return {f"{stem}.down.weight": pair[0], f"{stem}.up.weight": pair[1]}


def _parts(transformer: str, text: str) -> dict[str, str]:
    return {"transformer": transformer, "text_encoder": text}


DIFFUSERS = _parts("transformer.", "text_encoder.")
FORMS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "diffusers": _dotted(DIFFUSERS, ".lora_A", ".lora_B"),
    "diffusers-old": _dotted(DIFFUSERS, ".lora.down", ".lora.up"),
    "diffusers-linear": _dotted(DIFFUSERS, ".lora_linear_layer.down", ".lora_linear_layer.up"),
    "diffusers-unet": _dotted(_parts("unet.", "text_encoder."), ".lora.down", ".lora.up"),
    "processor": _processor,
    "peft": _dotted(_parts("base_model.model.", "base_model.model."), ".lora_A", ".lora_B"),
    "peft-named": _dotted(_parts("base_model.model.", "base_model.model."), ".lora_A.default", ".lora_B.default"),
    "peft-in-part": _dotted(
        _parts("transformer.base_model.model.", "text_encoder.base_model.model."), ".lora_A", ".lora_B"
    ),
    "bare": _dotted(_parts("", ""), ".lora_A", ".lora_B"),
    "kohya": _kohya,
    "comfyui": _dotted(_parts("diffusion_model.", "text_encoders.clip_l.transformer."), ".lora_down", ".lora_up"),
}


def tensors(form: str, transformer: Factors | None = None, text_encoder: Factors | None = None) -> dict[str, Tensor]:
    """The tensors of a file."""
    parts = {"transformer": transformer or {}, "text_encoder": text_encoder or {}}
    found: dict[str, Tensor] = {}
    for part, pairs in parts.items():
        for name, pair in pairs.items():
            found.update(FORMS[form](part, name, pair))
    return found


def write(file: Path, form: str, transformer: Any = None, text_encoder: Any = None, **metadata: str) -> Path:
    """A LoRA file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors(form, transformer, text_encoder), file, metadata=metadata or None)
    return file


# What a LoRA for Stable Diffusion 1.5 holds: its text encoder is of the kind that aMUSEd has, too.
STRANGER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def weights(model):
    """(part, name) -> a copy of every weight that a LoRA may change."""
    parts = {"transformer": model.transformer, "text_encoder": model.text.module}
    return {(part, name): p.clone() for part, module in parts.items() for name, p in module.named_parameters()}


def changed(before, after):
    """(part, module) of the weights that differ."""
    return {
        (part, name.removesuffix(".weight")) for (part, name), p in after.items() if not p.equal(before[part, name])
    }


def check(model, before, pairs, scale, part="transformer"):
    """Every weight is `W + scale * up @ down`."""
    after = weights(model)
    for name, (down, up) in pairs.items():
        delta = (up.flatten(1).double() @ down.flatten(1).double()).reshape(before[part, f"{name}.weight"].shape)
        want = before[part, f"{name}.weight"].double() + scale * delta
        assert (after[part, f"{name}.weight"].double() - want).abs().max() < 1e-6, name
