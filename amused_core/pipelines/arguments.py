"""The arguments that the three pipelines share, in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from ..errors import AmusedError
from ..settings import VALUES

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
            raise AmusedError("pass either both `prompt_embeds` and `encoder_hidden_states` or neither")
        if (self.negative_pooled is None) != (self.negative_hidden is None):
            raise AmusedError(
                "pass either both `negative_prompt_embeds` and `negative_encoder_hidden_states` or neither"
            )
        if (self.prompt is None) == (self.pooled is None):
            raise AmusedError("pass only one of `prompt` or `prompt_embeds`")


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
        _positive(1 if self.copies is None else self.copies, "num_images_per_prompt")
        _positive(self.callback_steps, "callback_steps")
        if len(self.crop) != 2:
            raise AmusedError(f"micro_conditioning_crop_coord is {self.crop!r}; allowed is a pair of numbers.")
        if self.output_type not in OUTPUT_TYPES:
            raise AmusedError(f"output_type is {self.output_type!r}; allowed are {', '.join(OUTPUT_TYPES)}.")


def _positive(value: int, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise AmusedError(f"{name} is {value!r}; allowed are whole numbers from 1.")
