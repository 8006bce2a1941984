"""The arguments that the three pipelines share, in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from ..errors import AmusedError, quoted
from ..sampling.schedule import MAX_STEPS
from ..settings import VALUES, inputs

# Of the numbers of the micro-conditioning; what was trained is far below.
MAX_MICRO = 2**20
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass(frozen=True)
class PromptArguments:
    """What to draw and what to keep away from: texts, or their embeddings (pooled [B,P] and hidden states [B,L,D])."""

    prompt: str | list[str] | None
    pooled: Tensor | None
    hidden: Tensor | None
    negative_prompt: str | list[str] | None
    negative_pooled: Tensor | None
    negative_hidden: Tensor | None

    def __post_init__(self) -> None:
        if (self.pooled is None) != (self.hidden is None):
            raise AmusedError("pass either both `prompt_embeds` and `encoder_hidden_states` or neither.")
        if (self.negative_pooled is None) != (self.negative_hidden is None):
            raise AmusedError(
                "pass either both `negative_prompt_embeds` and `negative_encoder_hidden_states` or neither."
            )
        if (self.prompt is None) == (self.pooled is None):
            raise AmusedError("pass only one of `prompt` or `prompt_embeds`.")


@dataclass(frozen=True)
class RunArguments:
    """How to draw it and what to give back."""

    steps: int
    guidance_scale: float
    temperature: float | Sequence[float]
    copies: int | None
    generator: Generator | Sequence[Generator] | None
    callback: Callable[[int, int, Tensor], None] | None
    callback_steps: int
    cross_attention_kwargs: dict[str, Any] | None
    aesthetic_score: float
    crop: Sequence[float]
    output_type: str
    return_dict: bool

    def __post_init__(self) -> None:
        VALUES["steps"].check(self.steps, "steps", 0)
        VALUES["cfg"].check(self.guidance_scale, "guidance_scale", 0)
        VALUES["temperature"].check(self.temperature, "temperature", 0)
        inputs.whole(1 if self.copies is None else self.copies, "num_images_per_prompt", 1, inputs.MAX_BATCH)
        inputs.whole(self.callback_steps, "callback_steps", 1, MAX_STEPS)
        inputs.function(self.callback, "callback")
        if not isinstance(self.cross_attention_kwargs, (dict, type(None))):
            raise AmusedError(
                f"cross_attention_kwargs is {quoted(self.cross_attention_kwargs)}; allowed are a dict, or None."
            )
        crop = tuple(self.crop) if isinstance(self.crop, (list, tuple)) else ()
        if len(crop) != 2:
            raise AmusedError(f"micro_conditioning_crop_coord is {quoted(self.crop)}; allowed is a pair of numbers.")
        for value in crop:
            inputs.number(value, "micro_conditioning_crop_coord", -MAX_MICRO, MAX_MICRO)
        inputs.number(self.aesthetic_score, "micro_conditioning_aesthetic_score", -MAX_MICRO, MAX_MICRO)
        inputs.choice(self.output_type, "output_type", OUTPUT_TYPES)
        inputs.flag(self.return_dict, "return_dict")
