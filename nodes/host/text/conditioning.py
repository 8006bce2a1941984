"""CONDITIONING: prompts through ComfyUI's CLIP, and micro-conditioning beside them."""

from __future__ import annotations

from typing import Any

import node_helpers
import torch

from ....amused_core.errors import AmusedError
from .clip import AmusedClipModel


def encode(clip: Any, text: str) -> list[Any]:
    """A prompt as CONDITIONING, exactly as the stock 'CLIP Text Encode' does it.

    Raises:
        AmusedError: the CLIP is of another model.
    """
    if not isinstance(getattr(clip, "cond_stage_model", None), AmusedClipModel):
        raise AmusedError("This CLIP is of another model; connect the CLIP of 'Load aMUSEd'.")
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def join(prompts: list[list[Any]]) -> list[Any]:
    """One CONDITIONING with a row for each picture, of the CONDITIONINGs of single prompts."""
    entries = [entry for ((*entry,),) in prompts]
    more = {name: value for name, value in entries[0][1].items() if name != "amused_words"}
    more["pooled_output"] = torch.cat([entry["pooled_output"] for _, entry in entries])
    return [[torch.cat([hidden for hidden, _ in entries]), more]]


def with_micro(conditioning: list[Any], micro: tuple[float, ...]) -> list[Any]:
    """Adds (width, height, crop top, crop left, aesthetic score) to every entry; width and height 0 = the picture's."""
    return node_helpers.conditioning_set_values(conditioning, {"amused_micro": tuple(micro)})
