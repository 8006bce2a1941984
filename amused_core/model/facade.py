"""The facade: load a model, generate pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from ..errors import AmusedError
from ..lora import Lora, Loras
from ..networks.attention import OBSERVER, AttentionObserver, choose_attention
from ..networks.compiled import CompiledTransformer
from ..networks.encoded_prompt import EncodedPrompt, encode_prompts
from ..networks.int8 import int8_pays, quantized_copy
from ..networks.kernels import keep_memory
from ..networks.predictor import predictor
from ..networks.prompt_cache import PromptCache
from ..networks.text import Text
from ..networks.threads import free_threads
from ..networks.transformer import Transformer
from ..networks.vq import VQ
from ..networks.weights import mark_changed
from ..sampling.filters import ends, logits_filter
from ..sampling.guidance import cfg_weights
from ..sampling.loop import Predict, Step, sample
from ..sampling.rules import rule_named
from ..sampling.schedule import Schedule
from ..sampling.start import start_tokens
from ..settings import inputs
from .loading import build_text, build_transformer, build_vq
from .placement import cpu_dtype, device_named, dtype_named
from .request import Request, resolve, warn_of_size


@dataclass(frozen=True)
class Result:
    """Pictures and the tokens they were decoded from.

    Attributes:
        images: float32 [B,H,W,3] in 0..1.
        tokens: int64 [B,h,w].
        settings: what made each picture, defaults filled in. With per-image seeding they draw it again;
            diffusers' seeding needs the whole batch, too.
    """

    images: Tensor
    tokens: Tensor
    settings: list[dict[str, Any]]


def load_model(
    path: str | Path | None = None,
    variant: str | None = None,
    dtype: str = "auto",
    device: str | torch.device = "auto",
    attention: str = "auto",
    mmap: bool = False,
) -> AmusedModel:
    """Loads an aMUSEd model.

    Args:
        path: a folder in diffusers' layout or a `.safetensors` file of ours; None is the model that ships here.
        variant: weight variant of a folder, such as "fp16"; a part without it is read plain, if another part has it.
        dtype: "fp32", "fp16", "bf16" for U-ViT and text encoder. "auto" is the stored one off the CPU. On a CPU it is
            fp32, but bf16 for a large model stored in half precision where a short trial finds that much faster.
            The VQ-GAN always runs in fp32.
        device: "cpu", "cuda", "mps" (an index may follow: "cuda:1"); "auto" is the best there is.
        attention: "sdpa", "xformers", or "auto".
        mmap: map weights that need no cast from the file instead of reading them: processes then share their memory,
            but end without a word when the file is overwritten in place.

    Raises:
        CheckpointError: nothing usable at `path`.
        AttentionError: `attention` cannot run.
        AmusedError: unknown `dtype` or `device`.
    """
    own_dtype, mmap = dtype_named(dtype), inputs.flag(mmap, "mmap")
    where = device_named(device)
    checkpoint = open_checkpoint(path, variant, mmap)
    attend = choose_attention(attention, where)
    compute = own_dtype or (cpu_dtype(checkpoint) if where.type == "cpu" else None)
    keep_memory()
    return AmusedModel(
        checkpoint,
        build_transformer(checkpoint, compute, where, attend=attend),
        build_text(checkpoint, compute, where),
        build_vq(checkpoint, where),
    )


class AmusedModel:
    """A loaded model: `checkpoint` (configs, recommended settings), `transformer`, `text`, `vq`, `loras`."""

    def __init__(self, checkpoint: Checkpoint, transformer: Transformer, text: Text, vq: VQ) -> None:
        self.checkpoint = checkpoint
        self.transformer = transformer
        self.text = text
        self.vq = vq
        self.loras = Loras({"transformer": transformer, "text_encoder": text.module})
        self.prompt_cache = PromptCache()

    @property
    def device(self) -> torch.device:
        """Where the transformer lives."""
        return self.transformer.device

    def set_attention(self, name: str) -> None:
        """Switches the attention backend of the loaded U-ViT: "auto", "sdpa" or "xformers".

        Raises:
            AttentionError: unknown, or cannot run here.
        """
        self.transformer.attend = choose_attention(name, self.device)

    def load_lora(self, path: str | Path, strength: float = 1.0, text_strength: float | None = None) -> Lora:
        """Merges a LoRA into the weights, on top of those that are loaded; formats of diffusers, peft and kohya.

        Args:
            path: a `.safetensors` file, or a folder in which diffusers or peft saved one.
            strength: -100..100; negative takes the style away.
            text_strength: the same for the text encoder; None is `strength`.

        Returns:
            What was loaded, and in `unused` the keys of the file that fit nothing.

        Raises:
            AmusedError: unreadable, damaged, or of another model; the weights are then as before.
        """
        return self.loras.add(path, strength, text_strength)

    def unload_loras(self) -> None:
        """Takes all LoRAs out; the weights are as they were, bit for bit."""
        self.loras.clear()

    def weights_changed(self) -> None:
        """Forgets all that is kept because the weights are as they were.

        Changes in place, by optimizers and LoRAs are seen without it; it is for edits of single numbers through
        `.data`.
        """
        for module in (self.transformer, self.text.module, self.vq.module.decoder):
            mark_changed(module)

    def save(self, path: str | Path, dtype: str = "auto") -> None:
        """Writes the checkpoint, without LoRAs; `dtype` "auto" keeps the stored one.

        A `path` that ends in `.safetensors` becomes one file, any other a new folder in diffusers' layout.
        """
        save_checkpoint(path, self.checkpoint, dtype_named(dtype))

    @torch.no_grad()
    def generate(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] = "",
        image: Any = None,
        mask: Any = None,
        strength: float | None = None,
        steps: int | None = None,
        cfg: float | None = None,
        temperature: float | Sequence[float] | None = None,
        schedule: str | None = None,
        seed: int | Sequence[int] = 0,
        seeding: str = "per_image",
        batch_size: int = 1,
        width: int | None = None,
        height: int | None = None,
        on_step: Callable[[Step], None] | None = None,
        *,
        fast: bool = False,
        compile: bool = False,
        on_attention: AttentionObserver | None = None,
        reuse: bool = True,
        keep_original: bool = True,
        **settings: Any,
    ) -> Result:
        """Draws pictures from text, from a picture (`image`), or inside a `mask` of a picture.

        `prompt`, `negative_prompt`, `image`, `mask` and `seed` take one item or a batch; single items are shared.

        Args:
            prompt: what to draw, in any script and of any length; what the text encoder does not read is logged.
            negative_prompt: what to keep away from; only matters where `cfg` is above 1.
            image: PIL picture, uint8 array, or float [B,H,W,3] in 0..1; sides must be multiples of the VQ's factor.
            mask: PIL mask or [B,H,W]; from 0.5 on a pixel's whole cell is regenerated.
            strength: share of the schedule that runs, 0..1. None: 0.5 with an image, 1.0 with a mask. 1.0 without a
                mask ignores the image. With a mask, per-image seeding masks that much of the region again; diffusers'
                seeding masks all of it, as its pipeline does.
            steps: 1 to 1000 steps of a whole run; None: the model's own recommendation, as for all settings.
            cfg: guidance, 0..100; 1 and below is none.
            temperature: randomness in the choice of tokens to keep: (first step, last step), or one number.
            schedule: "cosine" or "linear"; None: linear with a mask (as diffusers), else the model's.
            seed: 0 to 2**64 - 1. Per image: picture i has `seed + i`, or `seed[i]`.
            seeding: "per_image": a picture is the same alone and in any batch; "diffusers": one generator for the
                batch, the token stream of diffusers' pipelines.
            batch_size: pictures to draw where the inputs do not say it.
            width, height: pixels, multiples of the factor; None: the image's, or the model's own. More than 16 times
                the recommended area is logged.
            on_step: called after every step with a `Step`.
            fast: faster, with different tokens: fills in `settings.FAST` where settings were left out
                (docs/speed.md).
            compile: compiles the passes (`torch.compile`): the first image of each size waits for it, the others take
                less time, on a GPU most of all. The tokens stay the same, but for rounding. Not with `int8`.
            on_attention: called with every attention to the text; see `AttentionObserver`.
            reuse: equal prompts share the first, wholly masked pass, also over calls: the same tokens in less time.
                False: each row of each step goes through the transformer, for counting or watching passes.
            keep_original: with a mask, pixels outside its cells are those of `image`, and the edge within is soft over
                2 pixels. False: the whole picture is decoded, which changes every pixel a little.
            settings: the other fields of `SamplingSettings` by name: `cfg_schedule` ("constant"; "ramp": guidance rises
                evenly from none at the first step to `cfg` at the last; "interval": `cfg` in a part of the run),
                `cfg_interval`, `cfg_every`, `cfg_rescale`, `sampling_temperature`, `sampling_temperature_end`, `top_k`,
                `top_p`, `int8`, `order` (the unmasking rule), `entropy_bound`, `revision`.

        Raises:
            AmusedError: (a ValueError) any input that is out of range or does not fit the others.
        """
        named = {"steps": steps, "cfg": cfg, "temperature": temperature, "schedule": schedule}
        request = self.request(
            prompt=prompt,
            negative_prompt=negative_prompt,
            image=image,
            mask=mask,
            strength=strength,
            seed=seed,
            seeding=seeding,
            batch_size=batch_size,
            width=width,
            height=height,
            keep_original=keep_original,
            fast=fast,
            settings={**named, **settings},
        )
        warn_of_size(request, self.checkpoint.recommended)
        return self.run(
            request,
            inputs.function(on_step, "on_step"),
            inputs.function(on_attention, "on_attention"),
            inputs.flag(reuse, "reuse"),
            compile=inputs.flag(compile, "compile"),
        )

    def request(self, **arguments: Any) -> Request:
        """The arguments of `generate`, checked and with every default filled in; `settings` is a dict here."""
        return resolve(self.checkpoint, int8_pays=int8_pays(self.transformer), **arguments)

    @torch.no_grad()
    def run(
        self,
        request: Request,
        on_step: Callable[[Step], None] | None = None,
        on_attention: AttentionObserver | None = None,
        reuse: bool = True,
        wrap_predict: Callable[[Predict], Predict] | None = None,
        compile: bool = False,
    ) -> Result:
        """Draws the pictures of a request that is resolved.

        `wrap_predict` may put a callable around the one that predicts logits, such as a clock; the others are as in
        `generate`.
        """
        tokens = self.draw_tokens(request, on_step, on_attention, reuse, wrap_predict, compile)
        pictures = [request.picture_settings(index) for index in range(request.batch)]
        return Result(self.decode(request, tokens), tokens.cpu(), pictures)

    @torch.no_grad()
    @free_threads()
    def draw_tokens(
        self,
        request: Request,
        on_step: Callable[[Step], None] | None = None,
        on_attention: AttentionObserver | None = None,
        reuse: bool = True,
        wrap_predict: Callable[[Predict], Predict] | None = None,
        compile: bool = False,
    ) -> Tensor:
        """The first half of `run`: tokens int64 [B,h,w], on the device they were drawn on."""
        settings = request.settings
        schedule = Schedule.named(settings.schedule, settings.steps, request.start)
        region = None if request.region is None else inputs.rows(request.region, request.batch).to(self.device)
        predict = self._predictor(request, schedule, on_attention, reuse, compile)
        heats = ends(settings.sampling_temperature, settings.sampling_temperature_end)
        return sample(
            self._start(request, region, schedule),
            predict if wrap_predict is None else wrap_predict(predict),
            schedule,
            request.draws,
            mask_token_id=self.checkpoint.mask_token_id,
            temperature=settings.temperature,
            region=region,
            on_step=on_step,
            logits_filter=logits_filter(schedule.temperatures(heats), settings.top_k, settings.top_p),
            rule=rule_named(settings.order, revision=settings.revision, entropy_bound=settings.entropy_bound),
        )

    @torch.no_grad()
    def decode(self, request: Request, tokens: Tensor) -> Tensor:
        """The second half of `run`: pictures float32 [B,H,W,3] of tokens [B,h,w]; may run in another thread."""
        return request.restored(self.vq.decode(tokens, half=request.fast).cpu(), self.vq.factor)

    def _start(self, request: Request, region: Tensor | None, schedule: Schedule) -> Tensor:
        """The grid a run begins with, int64 [B,h,w]."""
        mask_token_id = self.checkpoint.mask_token_id
        if request.pixels is None:
            grid = (request.height // self.vq.factor, request.width // self.vq.factor)
            return torch.full((request.batch, *grid), mask_token_id, device=self.device)
        tokens = inputs.rows(self.vq.encode(request.pixels).to(self.device), request.batch)
        ratio = float(schedule.ratios[0])
        return start_tokens(tokens, ratio, request.draws, mask_token_id, region, request.whole_region)

    def _predictor(
        self,
        request: Request,
        schedule: Schedule,
        on_attention: AttentionObserver | None,
        reuse: bool,
        compile: bool,
    ) -> Predict:
        """The callable that gives guided logits for a partly masked grid."""
        settings = request.settings
        weights = cfg_weights(settings.cfg, settings.cfg_schedule, schedule, settings.cfg_interval)
        if compile and settings.int8:
            raise AmusedError("compile is True and so is int8; allowed is one of them.")
        transformer = quantized_copy(self.transformer) if settings.int8 else self.transformer
        reuse = reuse and on_attention is None
        cond = self._encode(transformer, request.prompts, request, reuse)
        guided = any(weight != 1 for weight in weights)
        uncond = self._encode(transformer, request.negatives, request, reuse) if guided else None
        options = None if on_attention is None else {OBSERVER: on_attention}
        runner = CompiledTransformer(transformer) if compile else transformer
        return predictor(runner, cond, uncond, weights, settings.cfg_every, options, settings.cfg_rescale)

    def _encode(
        self, transformer: Transformer, prompts: list[str], request: Request, reuse: bool
    ) -> list[EncodedPrompt]:
        """The encoded prompt of each picture."""
        self.text.warn_of_cuts(prompts)
        prompts = prompts * request.batch if len(prompts) == 1 else prompts
        encode = self.prompt_cache.encode if reuse else encode_prompts
        return encode(transformer, self.text, prompts, request.width, request.height)
