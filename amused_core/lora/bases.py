"""Which other model a LoRA was made for, by the look of its keys."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Of each group, the first pattern that is found in any key decides.
_KINDS = (
    (r"\.(hada|lokr|oft|boft|glora)_|\.(a1|oft_blocks)\.weight$", "LoHa, LoKr or OFT, kinds of weights not read here"),
    (r"dora_scale|lora_magnitude_vector|lora_mid\.", "DoRA or a Tucker form, kinds of weights that are not read here"),
)
_BASES = (
    (r"lora_te2_|text_encoder_2\.|transformer_blocks[._]9[._].*attn2", "Stable Diffusion XL"),
    (r"lora_prior_", "Stable Cascade"),
    (r"single_transformer_blocks|double_blocks|single_blocks", "Flux or Hunyuan"),
    (r"joint_blocks|add_[qkv]_proj", "Stable Diffusion 3"),
    (r"(down|up|input|output|mid|middle)_blocks?[._].*(transformer_blocks|attentions|resnets)", "Stable Diffusion"),
    (r"blocks[._]\d+[._](cross_attn|self_attn)", "Wan"),
    (r"transformer_blocks[._]\d", "another diffusion transformer"),
)
_FACTORS = re.compile(r"lora|\.alpha$|\.diff(_b)?$")


def guess(keys: Iterable[str]) -> str | None:
    """What the keys look like, as in "It looks like a LoRA for ..."; None where nothing is recognised."""
    keys = list(keys)
    if kind := _first(_KINDS, keys):
        return kind
    if not any(_FACTORS.search(key) for key in keys):
        return "a whole model, not a LoRA"
    base = _first(_BASES, keys)
    return base and f"a LoRA for {base}"


def _first(signs: Iterable[tuple[str, str]], keys: list[str]) -> str | None:
    return next((name for pattern, name in signs if any(re.search(pattern, key) for key in keys)), None)
