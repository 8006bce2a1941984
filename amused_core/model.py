"""The facade: load a model, generate pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import inputs
from .checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from .errors import AmusedError
from .loading import build_text, build_transformer, build_vq
from .lora import Lora, Loras
from .networks.attention import choose_attention
from .networks.int8 import int8_problem, int8_twin
from .networks.kernels import bf16_pays
from .networks.prompted import Prompted, PromptMemory, fingerprint, predictor, told
from .networks.text import Text
from .networks.transformer import UVit
from .networks.vq import VQ
from .request import Request, resolve
from .sampling.filters import narrower
from .sampling.guidance import cfg_weights
from .sampling.loop import Predict, Step, remask, sample
from .sampling.schedule import mask_ratios, temperatures

DTYPES = {"auto": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Weights from which on half precision matters: the embedded model stays far below, the real ones far above.
LARGE = 100_000_000
DEVICES = ("auto", "cpu", "cuda", "mps")


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
    device: str = "auto",
    attention: str = "auto",
) -> AmusedModel:
    """Loads an aMUSEd model.

    Args:
        path: a folder in diffusers' layout or a `.safetensors` file of ours; None is the model that ships here.
        variant: weight variant of a folder, such as "fp16".
        dtype: "fp32", "fp16", "bf16" for U-ViT and text encoder. "auto" is the stored one off the CPU. On a CPU it is
            fp32, but bf16 for a large model stored in half precision where a short trial finds that much faster.
            The VQ-GAN always runs in fp32.
        device: "cpu", "cuda", "mps" (an index may follow: "cuda:1"); "auto" is the best there is.
        attention: "sdpa", "xformers", or "auto".

    Raises:
        CheckpointError: nothing usable at `path`.
        AttentionError: `attention` cannot run.
        AmusedError: unknown `dtype` or `device`.
    """
    own_dtype = _dtype(dtype)
    where = _device(str(device))
    checkpoint = open_checkpoint(path, variant)
    attend = choose_attention(attention, where)
    compute = own_dtype or (_cpu_dtype(checkpoint) if where.type == "cpu" else None)
    return AmusedModel(
        checkpoint,
        build_transformer(checkpoint, compute, where, attend=attend),
        build_text(checkpoint, compute, where),
        build_vq(checkpoint, where),
    )


class AmusedModel:
    """A loaded model: `checkpoint` (configs, recommended settings), `transformer`, `text`, `vq`.

    Attributes:
        reuse: equal prompts share the first, wholly masked pass, also over calls of `generate`: the same tokens in less
            time. False: each row of each step goes through the U-ViT, for counting or watching passes.
    """

    def __init__(self, checkpoint: Checkpoint, transformer: UVit, text: Text, vq: VQ) -> None:
        self.checkpoint = checkpoint
        self.transformer = transformer
        self.text = text
        self.vq = vq
        self.loras = Loras({"transformer": transformer, "text_encoder": text.module})
        self.reuse = True
        self._memory = PromptMemory()

    @property
    def device(self) -> torch.device:
        """Where the U-ViT lives."""
        return self.transformer.encoder_proj.weight.device

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

    def save(self, path: str | Path, dtype: str = "auto") -> None:
        """Writes the checkpoint, without LoRAs; `dtype` "auto" keeps the stored one.

        A `path` that ends in `.safetensors` becomes one file, any other a new folder in diffusers' layout.
        """
        save_checkpoint(path, self.checkpoint, _dtype(dtype))

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
        cfg_schedule: str | None = None,
        cfg_interval: Sequence[float] | None = None,
        sampling_temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        fast: bool = False,
        int8: bool | None = None,
        cfg_every: int | None = None,
    ) -> Result:
        """Draws pictures from text, from a picture (`image`), or inside a `mask` of a picture.

        `prompt`, `negative_prompt`, `image`, `mask` and `seed` take one item or a batch; single items are shared.

        Args:
            prompt: what to draw, in any script and of any length (cut at the text encoder's limit).
            negative_prompt: what to keep away from; only matters where `cfg` is above 1.
            image: PIL picture, uint8 array, or float [B,H,W,3] in 0..1; sides must be multiples of the VQ's factor.
            mask: PIL mask or [B,H,W]; from 0.5 on a pixel's whole cell is drawn anew.
            strength: share of the schedule that runs, 0..1. None: 0.5 with an image, 1.0 with a mask. 1.0 without a
                mask ignores the image. With a mask, per-image seeding masks that much of the region again; diffusers'
                seeding masks all of it, as its pipeline does.
            steps: 1 to 1000 steps of a whole run; None: the model's own recommendation, as for all that follow.
            cfg: guidance, 0..100; 1 and below is none.
            temperature: noise in the choice of tokens to keep: (first step, last step), or one number.
            schedule: "cosine" or "linear"; None: linear with a mask (as diffusers), else the model's.
            seed: 0 to 2**64 - 1. Per image: picture i has `seed + i`, or `seed[i]`.
            seeding: "per_image": a picture is the same alone and in any batch; "diffusers": one generator for the
                batch, the token stream of diffusers' pipelines.
            batch_size: pictures to draw where the inputs do not say it.
            width, height: pixels, multiples of the factor; None: the image's, or the model's own.
            on_step: called after every step with a `Step`.
            cfg_schedule: "constant"; "ramp": guidance rises evenly from none (1) at the first step to `cfg` at the
                last; "interval": `cfg` in a part of the run, none in the rest. A step without guidance skips its
                unconditional pass. None: "interval" where `cfg_interval` is given, else the model's.
            cfg_interval: (a, b) with 0 <= a < b <= 1, shares of the whole schedule, also where `strength` leaves out
                its beginning; a step counts by where it begins. Only matters to "interval".
            sampling_temperature: 0.01 to 10, divides the logits before codes are drawn; 1 leaves them.
            top_k: codes are drawn from the `top_k` likeliest only; 0: from all.
            top_p: above 0, up to 1: drawn from the smallest set of codes that together are that likely; 1: from all.
                Which tokens are kept is decided by the model's own probabilities, without these three.
            fast: what was left out of `steps`, `cfg_schedule`, `cfg_interval` and `int8` becomes 8, "interval",
                (0, 0.5) and True where the machine can: several times faster, with other tokens (docs/speed.md).
            int8: 8-bit matrix products, on a CPU in fp32 only; None: no, unless `fast`.
            cfg_every: of this many guided steps, the first alone asks the model what it would draw without the prompt;
                the others reuse the difference. None: 1, which is exact.

        Raises:
            AmusedError: (a ValueError) any input that is out of range or does not fit the others.
        """
        if fast and int8 is None:
            int8 = int8_problem(self.transformer) is None
        request = resolve(
            self.checkpoint,
            prompt=prompt,
            negative_prompt=negative_prompt,
            image=image,
            mask=mask,
            strength=strength,
            steps=steps,
            cfg=cfg,
            temperature=temperature,
            schedule=schedule,
            seed=seed,
            seeding=seeding,
            batch_size=batch_size,
            width=width,
            height=height,
            cfg_schedule=cfg_schedule,
            cfg_interval=cfg_interval,
            sampling_temperature=sampling_temperature,
            top_k=top_k,
            top_p=top_p,
            fast=fast,
            int8=int8,
            cfg_every=cfg_every,
        )
        ratios = mask_ratios(request.steps, request.schedule, request.first)
        region = None if request.region is None else inputs.rows(request.region, request.batch).to(self.device)
        tokens = sample(
            self._start(request, region, ratios[0]),
            self._predictor(request),
            ratios,
            request.draws,
            mask_token_id=self.checkpoint.mask_token_id,
            temperatures=temperatures(ratios, request.temperature),
            region=region,
            on_step=on_step,
            narrow=narrower(request.sampling_temperature, request.top_k, request.top_p),
        )
        return Result(self.vq.decode(tokens).cpu(), tokens.cpu(), [request.settings(i) for i in range(request.batch)])

    def _start(self, request: Request, region: Tensor | None, ratio: Tensor) -> Tensor:
        """The grid a run begins with, int64 [B,h,w], its first share `ratio` masked."""
        mask_id = self.checkpoint.mask_token_id
        if request.pixels is None:
            grid = (request.height // self.vq.factor, request.width // self.vq.factor)
            return torch.full((request.batch, *grid), mask_id, device=self.device)
        tokens = inputs.rows(self.vq.encode(request.pixels).to(self.device), request.batch)
        if request.first == 0 or request.whole_region:
            return torch.full_like(tokens, mask_id) if region is None else torch.where(region, mask_id, tokens)
        return remask(tokens, ratio, request.draws, mask_id, region)

    def _predictor(self, request: Request) -> Predict:
        """The callable that gives guided logits for a partly masked grid."""
        weights = cfg_weights(request.cfg, request.cfg_schedule, request.steps, request.first, request.cfg_interval)
        guided = any(weight != 1 for weight in weights)
        uvit = int8_twin(self.transformer, fingerprint(self.transformer)) if request.int8 else self.transformer
        cond = self._told(uvit, request.prompts, request)
        uncond = self._told(uvit, request.negatives, request) if guided else None
        return predictor(uvit, cond, uncond, weights, request.cfg_every)

    def _told(self, uvit: UVit, prompts: list[str], request: Request) -> list[Prompted]:
        """What the U-ViT makes of the prompt of each picture."""
        prompts = prompts * request.batch if len(prompts) == 1 else prompts
        how = self._memory.recall if self.reuse else told
        return how(uvit, self.text, prompts, request.width, request.height)


def _dtype(name: str) -> torch.dtype | None:
    if not isinstance(name, str) or name not in DTYPES:
        raise AmusedError(f"dtype is {name!r}; allowed are {', '.join(DTYPES)}.")
    return DTYPES[name]


def _cpu_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """fp32, or bf16 where the weights are halves anyway, and fast, and there are enough of them to matter."""
    weights = checkpoint.state("transformer").values()
    halves = all(weight.dtype in (torch.float16, torch.bfloat16) for weight in weights)
    large = sum(weight.numel() for weight in weights) >= LARGE
    return torch.bfloat16 if halves and large and bf16_pays() else torch.float32


def _device(name: str) -> torch.device:
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    if name.split(":")[0] not in DEVICES:
        raise AmusedError(f"device is {name!r}; allowed are {', '.join(DEVICES)}.")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise AmusedError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
