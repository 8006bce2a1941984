"""What a graph gives to learn: pictures with captions, and the model's own pictures of what it is to keep."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from ....amused_core.errors import AmusedError
from ....amused_core.finetune.dataset import TokenDataset
from ....amused_core.finetune.examples import fit
from ....amused_core.finetune.settings import TrainingSettings
from ....amused_core.networks.encoded_prompt import AESTHETIC_SCORE
from ....amused_core.networks.text import TextEmbedding
from .. import guards
from ..latent import latents, pictures
from ..latent.latent_format import codes_to_tokens
from ..sample import sampler
from ..text import conditioning

_DRAWN_AT_A_TIME = 8
logger = logging.getLogger(__name__)


def lines(text: str) -> list[str]:
    """The lines that are not empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def image_dataset(vae: Any, image: Tensor, text: str, model: Any) -> TokenDataset:
    """An IMAGE and its captions, one for all or a line for each, brought to the size that the model likes best.

    Raises:
        AmusedError: captions that do not fit the pictures, tiny pictures, or another model's VAE.
    """
    info, vae = guards.amused_model(model).info, guards.matching_vae(vae, model)
    image, size, captions = pictures.rgb(image), info.recommended, lines(text)
    if not captions or len(captions) not in (1, len(image)):
        raise AmusedError(
            f"There are {len(captions)} captions for {len(image)} images; write one line for all of them, or one "
            "for each."
        )
    if min(image.shape[1:3]) < info.factor:
        raise AmusedError(f"The images are {image.shape[2]}x{image.shape[1]} pixels, less than one token.")
    fitted, crop, how = fit(image, size.width, size.height)
    if how:
        logger.info("aMUSEd: training images: %s", how)
    codes = latents.encode(vae, fitted, "refuse")["samples"]
    tokens = codes_to_tokens(codes, info.codebook_size).cpu()
    micro = torch.tensor([[size.width, size.height, *crop, AESTHETIC_SCORE]], dtype=torch.float32)
    captions = captions * len(tokens) if len(captions) == 1 else captions
    return TokenDataset(tokens, tuple(captions), micro.repeat(len(tokens), 1))


def embed(clip: Any, caption: str) -> TextEmbedding:
    """A caption as the graph's own prompts are embedded."""
    hidden, more = conditioning.encode(clip, caption)[0]
    return TextEmbedding(hidden.cpu(), more["pooled_output"].cpu())


def prior_dataset(model: Any, clip: Any, settings: TrainingSettings, info: Any) -> TokenDataset:
    """`settings.prior_count` pictures that the graph's model draws of the prior prompts, without guidance."""
    count, size = settings.prior_count, info.recommended
    captions = [settings.prior_prompts[i % len(settings.prior_prompts)] for i in range(count)]
    tokens = []
    for caption in dict.fromkeys(captions):
        prompt, wanted = conditioning.encode(clip, caption), captions.count(caption)
        for start in range(0, wanted, _DRAWN_AT_A_TIME):
            latent = latents.empty(model, size.width, size.height, min(_DRAWN_AT_A_TIME, wanted - start))
            run = {"seed": (settings.seed + start) % 2**64, "denoise": 1.0, "seeding": "per_image"}
            drawn = sampler.sample_latent(model, latent, prompt, prompt, settings={"cfg": 1.0}, **run)["samples"]
            tokens.append(codes_to_tokens(drawn, info.codebook_size).cpu())
    micro = torch.tensor([[size.width, size.height, 0, 0, AESTHETIC_SCORE]], dtype=torch.float32)
    return TokenDataset(torch.cat(tokens), tuple(sorted(captions, key=captions.index)), micro.repeat(count, 1))


def copy_for_autograd(examples: TokenDataset) -> TokenDataset:
    """A copy whose tensors autograd may keep: ComfyUI makes them in inference mode."""
    return TokenDataset(examples.tokens.clone(), examples.captions, examples.micro.clone())
