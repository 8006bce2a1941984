"""Drawing inside a mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from diffusers import ImagePipelineOutput
from diffusers.image_processor import PipelineImageInput

from ..settings import inputs
from .arguments import PromptArguments, RunArguments
from .base import AmusedBase
from .pictures import cells, images
from .start import Start


class AmusedInpaintPipeline(AmusedBase):
    """diffusers' `AmusedInpaintPipeline`."""

    # Its codebook is read outside of any `forward`, where no offload hook sees it.
    _exclude_from_cpu_offload: ClassVar[list[str]] = ["vqvae"]

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        image: PipelineImageInput = None,
        mask_image: PipelineImageInput = None,
        strength: float = 1.0,
        num_inference_steps: int = 12,
        guidance_scale: float = 10.0,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int | None = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
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
        """Draws a masked part of a picture anew; every token outside of it stays.

        Args:
            prompt: what to draw, one text or several; or its embeddings (see `prompt_embeds`).
            image: PIL picture, array [B,H,W,3] or tensor [B,3,H,W] in 0..1, or a list; sides are multiples of the
                VQ's factor.
            mask_image: PIL mask, array [B,H,W(,1)] or tensor [B(,1),H,W], or a list; a cell with a pixel of 0.5 or
                more is regenerated. Another size than the picture's is stretched to it.
            strength: share of the schedule that runs, 0..1, at least one step.
            num_inference_steps: steps of a whole schedule, 1 to 1000.
            guidance_scale: 0..100; 1 and below is no guidance.
            negative_prompt: what to keep away from, one text or several.
            num_images_per_prompt: pictures of each prompt, in the order p0, p1, p0, p1.
            generator: one for the batch, or a list of one per picture: picture i is then what generator i draws alone.
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
        strength = inputs.number(strength, "strength", 0, 1)
        pixels = images(image, self.vae_scale_factor)
        region = cells(mask_image, tuple(pixels.shape[1:3]), self.vae_scale_factor)
        counts = {"image": len(pixels), "mask_image": len(region)}
        # The linear schedule whatever the scheduler's: diffusers does so, but by changing a scheduler others share.
        return self._draw(Start(self._tokens_of(pixels), "linear", counts, strength, region), prompts, run)
