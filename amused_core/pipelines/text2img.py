"""Text to picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import ImagePipelineOutput
from torch import Tensor

from ..errors import AmusedError, quoted
from ..settings import inputs
from .arguments import PromptArguments, RunArguments
from .base import AmusedBase
from .start import Start


class AmusedPipeline(AmusedBase):
    """diffusers' `AmusedPipeline`."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 12,
        guidance_scale: float = 10.0,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int | None = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        negative_encoder_hidden_states: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: Callable[[int, int, torch.Tensor], None] | None = None,
        callback_steps: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        micro_conditioning_aesthetic_score: int = 6,
        micro_conditioning_crop_coord: tuple[int, int] = (0, 0),
        temperature: int | tuple[int, int] | list[int] = (2, 0),
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draws pictures from text.

        Args:
            prompt: what to draw, one text or several; or its embeddings (see `prompt_embeds`).
            height, width: pixels, multiples of the VQ's factor; None: those of `latents`, or the model's own.
            num_inference_steps: steps of a whole schedule, 1 to 1000.
            guidance_scale: 0..100; 1 and below is no guidance.
            negative_prompt: what to keep away from, one text or several.
            num_images_per_prompt: pictures of each prompt, in the order p0, p1, p0, p1.
            generator: one for the batch, or a list of one per picture: picture i is then what generator i draws alone.
            latents: tokens to go on from, int64 [B,h,w]; what they know is kept. None: all cells are masked.
            prompt_embeds, encoder_hidden_states: pooled embeddings [B,P] and penultimate hidden states [B,L,D].
            negative_prompt_embeds, negative_encoder_hidden_states: the same, of the negative prompt.
            output_type: "pil", "np", "pt" or "latent" (tokens, int64 [B,h,w]).
            return_dict: an `ImagePipelineOutput`, else a tuple.
            callback: called as `callback(step, timestep, tokens)` after every `callback_steps`-th step.
            cross_attention_kwargs: handed to the transformer's attention processors.
            micro_conditioning_aesthetic_score, micro_conditioning_crop_coord: SDXL's micro-conditioning.
            temperature: noise in the choice of tokens to keep: (first step, last step), or a number, falling to 0.01.

        Raises:
            AmusedError: (a ValueError) any input that is out of range or does not fit the others.
        """
        prompts = PromptArguments(
            prompt=prompt,
            pooled=prompt_embeds,
            hidden=encoder_hidden_states,
            negative_prompt=negative_prompt,
            negative_pooled=negative_prompt_embeds,
            negative_hidden=negative_encoder_hidden_states,
        )
        run = RunArguments(
            steps=num_inference_steps,
            guidance_scale=guidance_scale,
            temperature=temperature,
            copies=num_images_per_prompt,
            generator=generator,
            callback=callback,
            callback_steps=callback_steps,
            cross_attention_kwargs=cross_attention_kwargs,
            aesthetic_score=micro_conditioning_aesthetic_score,
            crop=micro_conditioning_crop_coord,
            output_type=output_type,
            return_dict=return_dict,
        )
        return self._draw(self._start(latents, height, width, run.copies or 1), prompts, run)

    def _start(self, latents: Tensor | None, height: int | None, width: int | None, copies: int) -> Start:
        factor, schedule = self.vae_scale_factor, self.scheduler.config.masking_schedule
        if latents is not None:
            if not isinstance(latents, Tensor):
                raise AmusedError(f"latents is {quoted(latents)}; allowed are a tensor [B,h,w] of token ids, or None.")
            inputs.dense(latents, "latents")
        grid = (self.transformer.config.sample_size,) * 2 if latents is None else tuple(latents.shape[1:])
        if len(grid) != 2 or (latents is not None and not len(latents)):
            raise AmusedError(f"latents have the shape {tuple(latents.shape)}; they must be [B,h,w] and not empty.")
        height = inputs.side(grid[0] * factor if height is None else height, "height", factor)
        width = inputs.side(grid[1] * factor if width is None else width, "width", factor)
        if latents is None:
            return Start(self._masked(1, height, width), schedule, {})
        self._check(latents, height, width)
        # As in diffusers there may be one grid per picture.
        count = len(latents) if len(latents) % copies else len(latents) // copies
        return Start(latents.to(self._execution_device, torch.int64), schedule, {"latents": count})

    def _check(self, latents: Tensor, height: int, width: int) -> None:
        factor, mask_token_id = self.vae_scale_factor, self.scheduler.config.mask_token_id
        if tuple(latents.shape[1:]) != (height // factor, width // factor):
            raise AmusedError(
                f"latents have the shape {tuple(latents.shape)}, but an image of {width}x{height} pixels needs "
                f"[B,{height // factor},{width // factor}]."
            )
        codes = self.transformer.config.codebook_size
        if not bool((((latents >= 0) & (latents < codes)) | (latents == mask_token_id)).all()):
            raise AmusedError(
                f"latents hold ids from {latents.min()} to {latents.max()}; allowed are 0 to {codes - 1}, "
                f"and {mask_token_id} for a masked cell."
            )
