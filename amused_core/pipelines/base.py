"""What the three pipelines have in common: components, text, the run itself, output."""

# No `from __future__ import annotations` here: older diffusers read the components' classes from `__init__`.

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AmusedScheduler, DiffusionPipeline, ImagePipelineOutput, UVit2DModel, VQModel
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from ..errors import AmusedError
from ..networks.encoded_prompt import EncodedPrompt, encode_embeddings
from ..networks.predictor import Forward, module_predictor, predictor
from ..networks.text import Text, TextEmbedding
from ..networks.uvit import UVit
from ..sampling.loop import Predict, Step, sample
from ..sampling.schedule import Schedule, start_step
from ..settings import VALUES, inputs
from .arguments import PromptArguments, RunArguments
from .attention import XformersSwitch
from .draws import draws_of
from .shared import shared_uvit
from .start import Start
from .vq import running


class AmusedBase(XformersSwitch, DiffusionPipeline):
    """Components and loop of the aMUSEd pipelines; loading, saving and moving are diffusers' own."""

    image_processor: VaeImageProcessor
    vqvae: VQModel
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModelWithProjection
    transformer: UVit2DModel
    scheduler: AmusedScheduler

    model_cpu_offload_seq = "text_encoder->transformer->vqvae"

    def __init__(
        self,
        vqvae: VQModel,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModelWithProjection,
        transformer: UVit2DModel,
        scheduler: AmusedScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            vqvae=vqvae,
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            transformer=transformer,
            scheduler=scheduler,
        )
        self.vae_scale_factor = 8 if vqvae is None else 2 ** (len(vqvae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor, do_normalize=False)

    def _masked(self, batch: int, height: int, width: int) -> Tensor:
        """A grid of mask tokens for pictures of `height` x `width` pixels."""
        factor = self.vae_scale_factor
        shape = (batch, height // factor, width // factor)
        return torch.full(shape, self.scheduler.config.mask_token_id, device=self._execution_device)

    def _tokens_of(self, pixels: Tensor) -> Tensor:
        """float [B,H,W,3] in 0..1 -> int64 [B,h,w]."""
        with running(self.vqvae, self._execution_device) as vq:
            return vq.encode(pixels)

    def _draw(self, start: Start, texts: PromptArguments, run: RunArguments) -> ImagePipelineOutput | tuple[Any]:
        """Runs the loop from `start` and returns what diffusers would."""
        cond = self._embed("prompt", texts.prompt, texts.pooled, texts.hidden)
        counts = {"prompt": len(cond.pooled), **start.counts}
        uncond = None
        if run.guidance_scale > 1:
            negative = "" if texts.negative_prompt is None else texts.negative_prompt
            uncond = self._embed("negative_prompt", negative, texts.negative_pooled, texts.negative_hidden)
            counts["negative_prompt"] = len(uncond.pooled)
        prompts, copies = inputs.batch_size(counts, 1), run.copies or 1
        cond, uncond = _tile(cond, prompts, copies), uncond and _tile(uncond, prompts, copies)

        draws = draws_of(run.generator, prompts * copies)
        first = start_step(run.steps, start.strength)
        schedule = Schedule.named(start.schedule, run.steps, first)
        mask_token_id = self.scheduler.config.mask_token_id
        tokens, region = start.spread(prompts, copies, float(schedule.ratios[0]), draws, mask_token_id)
        with self.progress_bar(total=run.steps - first) as bar:
            tokens = sample(
                tokens,
                self._predictor(cond, uncond, run, tokens),
                schedule,
                draws,
                mask_token_id=mask_token_id,
                temperature=VALUES["temperature"].check(run.temperature, "temperature", 0),
                region=region,
                on_step=self._reporter(run, first, bar),
            )
        return self._output(tokens, run)

    def _embed(
        self, name: str, prompt: str | list[str] | None, pooled: Tensor | None, hidden: Tensor | None
    ) -> TextEmbedding:
        """The given embeddings, or those of the texts, in the dtype of the transformer."""
        device, dtype = self._execution_device, self.transformer.dtype
        if pooled is None:
            text = Text(self.text_encoder, self.tokenizer)
            prompts = inputs.texts(prompt, name)
            text.warn_of_cuts(prompts)
            hidden, pooled = text.encode(prompts, device)
        else:
            shapes = [tuple(inputs.dense(part, name).shape) for part in (pooled, hidden)]
            if len(shapes[0]) != 2 or len(shapes[1]) != 3:
                raise AmusedError(f"{name}: the embeddings have the shapes {shapes}; allowed are [B,P] and [B,L,D].")
            if len(pooled) != len(hidden) or not len(pooled):
                raise AmusedError(
                    f"{name}: there are {len(pooled)} pooled embeddings and {len(hidden)} hidden states; "
                    "there must be equally many, at least one."
                )
        return TextEmbedding(hidden.to(device, dtype), pooled.to(device, dtype))

    def _predictor(
        self, cond: TextEmbedding, uncond: TextEmbedding | None, run: RunArguments, tokens: Tensor
    ) -> Predict:
        """Guided logits for the batch of `tokens`."""
        height, width = (side * self.vae_scale_factor for side in tokens.shape[1:])
        # fp32 whatever the model's dtype: bf16 would round 257 to 256.
        micro = torch.tensor([[width, height, *run.crop, run.aesthetic_score]], device=tokens.device).float()
        if uncond is not None and uncond.hidden.shape != cond.hidden.shape:
            raise AmusedError(
                f"The prompt's hidden states have the shape {tuple(cond.hidden.shape)} but the negative prompt's "
                f"{tuple(uncond.hidden.shape)}; both must be equal."
            )
        own = None if run.cross_attention_kwargs else shared_uvit(self.transformer)
        if own is None:
            return module_predictor(self._component(run), cond, uncond, micro, run.guidance_scale)
        own.attend = self._attend()
        negatives = None if uncond is None else _encode_distinct(own, uncond, micro)
        return predictor(own, _encode_distinct(own, cond, micro), negatives, [run.guidance_scale] * run.steps)

    def _component(self, run: RunArguments) -> Forward:
        """`(tokens, hidden, pooled, micro) -> logits` of the component itself, which may do more than our U-ViT."""

        def forward(tokens: Tensor, hidden: Tensor, pooled: Tensor, micro: Tensor) -> Tensor:
            logits = self.transformer(
                tokens,
                encoder_hidden_states=hidden,
                pooled_text_emb=pooled,
                micro_conds=micro,
                cross_attention_kwargs=run.cross_attention_kwargs,
            )
            # A 512-type model pads an odd grid and returns the padding, too.
            return logits[..., : tokens.shape[-2], : tokens.shape[-1]]

        return forward

    def _reporter(self, run: RunArguments, first: int, bar: Any) -> Callable[[Step], None]:
        """Progress bar and callback, with the step numbers of the whole schedule."""
        timesteps = torch.arange(run.steps, device=self._execution_device).flip(0)

        def report(step: Step) -> None:
            bar.update()
            index = first + step.index
            if run.callback is not None and index % run.callback_steps == 0:
                run.callback(index, timesteps[index], step.tokens)

        return report

    def _output(self, tokens: Tensor, run: RunArguments) -> ImagePipelineOutput | tuple[Any]:
        pictures: Any = tokens
        if run.output_type != "latent":
            with running(self.vqvae, self._execution_device) as vq:
                pixels = vq.decode(tokens)
            pictures = self.image_processor.postprocess(pixels.movedim(-1, 1), run.output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(pictures) if run.return_dict else (pictures,)


def _tile(text: TextEmbedding, prompts: int, copies: int) -> TextEmbedding:
    """One row per picture, in the order p0, p1, p0, p1."""
    hidden, pooled = text.expand(prompts)
    return TextEmbedding(hidden.repeat(copies, 1, 1), pooled.repeat(copies, 1))


def _encode_distinct(uvit: UVit, text: TextEmbedding, micro: Tensor) -> list[EncodedPrompt]:
    """One for each row, the same object for rows that are equal."""
    first = [next(j for j in range(i + 1) if _equal(text, i, j)) for i in range(len(text.pooled))]
    distinct = sorted(set(first))
    prompts = encode_embeddings(uvit, TextEmbedding(*(part[distinct] for part in text)), micro)
    by_row = dict(zip(distinct, prompts, strict=True))
    return [by_row[i] for i in first]


def _equal(text: TextEmbedding, one: int, other: int) -> bool:
    return all(torch.equal(part[one], part[other]) for part in text)
