"""The graph's MODEL, CLIP and VAE in the form of the core's `AmusedModel`, as far as batch jobs use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

from torch import Tensor

from ....amused_core.errors import AmusedError
from ....amused_core.images.masks import cells_to_mask
from ....amused_core.model.request import Request, resolve
from ....amused_core.networks.int8 import int8_pays
from ....amused_core.sampling.loop import Step
from .. import guards
from ..latent import latents
from ..latent.latent_format import codes_to_tokens, tokens_to_codes
from ..load import lora
from ..sample import sampler, speed
from ..text import conditioning

# Prompts that stay encoded.
PROMPTS = 256


class GraphModel:
    """Draws requests with a graph's model, and with all that other nodes have put on it.

    Args:
        model, clip, vae: of 'Load aMUSEd'.
        on_step: called with each step of a run.

    Raises:
        AmusedError: one of them is of another model.
    """

    def __init__(self, model: Any, clip: Any, vae: Any, on_step: Callable[[Step], None] | None = None) -> None:
        self.vae = guards.matching_vae(vae, model)
        self.vq = vae.first_stage_model.vq
        self.checkpoint = guards.amused_model(model).checkpoint
        self.transformer = model.model.diffusion_model
        self.device = model.load_device
        self._on_step = on_step
        self._graph = model, guards.amused_clip(clip)
        if getattr(clip, "use_clip_schedule", False):
            raise AmusedError(
                "The LoRAs of this CLIP change during a run (hooks), which a batch job cannot follow; take them out."
            )
        self.unload_loras()

    def request(self, **arguments: Any) -> Request:
        """See `AmusedModel.request`."""
        pays = self.device.type == "cpu" and int8_pays(self.transformer)
        return resolve(self.checkpoint, int8_pays=pays, **arguments)

    def load_lora(self, name: str, strength: float) -> None:
        """Adds a LoRA of ComfyUI's folders to those of the graph, for the runs that follow."""
        self._use(*lora.load(self.model, self.clip, name, strength, strength))

    def unload_loras(self) -> None:
        """Takes out what `load_lora` added."""
        self._use(*self._graph)

    def _use(self, model: Any, clip: Any) -> None:
        self.model, self.clip = model, clip
        self._encode = lru_cache(PROMPTS)(partial(conditioning.encode, clip))

    def draw_tokens(self, request: Request) -> Tensor:
        """Tokens int64 [B,h,w] of the pictures of a request; each has its own prompts and seed."""
        model, settings = self.model, request.settings
        if settings.int8 or settings.cfg_every > 1:
            model = speed.faster(model, settings.int8, (0.0, 1.0), settings.cfg_every)
        sides = (conditioning.join(list(map(self._encode, texts))) for texts in (request.prompts, request.negatives))
        drawn = sampler.sample_latent(
            model,
            {**self._start(request), "batch_index": request.seeds},
            *sides,
            seed=0,  # Of picture i: this and its index in the batch.
            denoise=1.0 if request.pixels is None else request.strength,
            seeding=request.seeding,
            settings=asdict(settings),
            on_step=self._on_step,
            quiet=True,
        )
        return codes_to_tokens(drawn["samples"], self.vq.codebook_size)

    def decode(self, request: Request, tokens: Tensor) -> Tensor:
        """Pictures float32 [B,H,W,3] of tokens [B,h,w]."""
        images = self.vae.decode(tokens_to_codes(tokens, self.vq.codebook_size)).cpu()
        return request.restored(images, self.vq.factor)

    def _start(self, request: Request) -> dict[str, Tensor]:
        """The LATENT that a run begins with."""
        if request.pixels is None:
            return latents.empty(self.model, request.width, request.height, request.batch)
        latent = latents.encode(self.vae, request.pixels, "refuse")
        if request.region is not None:
            latent["noise_mask"] = cells_to_mask(request.region, self.vq.factor)[:, None]
        return latent
