"""Parts of graphs that many tests build."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.comfy.harness import GraphError

Node = SimpleNamespace


def load(comfy: Any, model: str = "tiny", dtype: str = "auto") -> Node:
    """MODEL, CLIP, VAE of a tiny checkpoint."""
    return comfy.node("AmusedLoader", model=model, dtype=dtype, text_encoder_dtype=dtype)


def prompts(comfy: Any, loader: Node, positive: str = "a red apple", negative: str = "", **micro: Any) -> Node:
    """AmusedTextEncode."""
    own = {"width": 0, "height": 0, "crop_top": 0, "crop_left": 0, "aesthetic_score": 6.0}
    return comfy.node("AmusedTextEncode", clip=(loader, 1), positive=positive, negative=negative, **(own | micro))


def empty(comfy: Any, loader: Node, width: int = 32, height: int = 32, batch: int = 1) -> Node:
    """AmusedEmptyLatent."""
    return comfy.node("AmusedEmptyLatent", model=loader, width=width, height=height, batch_size=batch)


def sample(comfy: Any, loader: Node, latent: Any, text: Node | None = None, **settings: Any) -> Node:
    """AmusedSampler, 6 steps and guidance 3 unless told otherwise."""
    text = prompts(comfy, loader) if text is None else text
    own = {"seed": 3, "steps": 6, "cfg": 3.0, "schedule": "auto", "denoise": 1.0}
    own |= {"temperature_start": 2.0, "temperature_end": 0.0, "seeding": "per_image"}
    wires = {"model": loader, "positive": text, "negative": (text, 1), "latent_image": latent}
    return comfy.node("AmusedSampler", **(wires | own | settings))


def custom(comfy: Any, loader: Node, latent: Any, text: Node | None = None, **settings: Any) -> Node:
    """The stock SamplerCustom with our sampler and scheduler; `settings` may name any of its inputs."""
    text = prompts(comfy, loader) if text is None else text
    steps, denoise = settings.pop("steps", 6), settings.pop("denoise", 1.0)
    wires = {
        "model": loader,
        "positive": text,
        "negative": (text, 1),
        "latent_image": latent,
        "sampler": sampler(comfy),
        "sigmas": comfy.node("AmusedScheduler", model=loader, schedule="auto", steps=steps, denoise=denoise),
        "add_noise": True,
        "noise_seed": 3,
        "cfg": 3.0,
    }
    return comfy.node("SamplerCustom", **(wires | settings))


def ksampler(comfy: Any, loader: Node, latent: Any, text: Node | None = None, **settings: Any) -> Node:
    """The stock KSampler with sampler and scheduler "amused"."""
    text = prompts(comfy, loader) if text is None else text
    wires = {"model": loader, "positive": text, "negative": (text, 1), "latent_image": latent, "seed": 3, "steps": 6}
    own = {"cfg": 3.0, "sampler_name": "amused", "scheduler": "amused", "denoise": 1.0}
    return comfy.node("KSampler", **(wires | own | settings))


def sampler(comfy: Any, seeding: str = "per_image") -> Node:
    """AmusedSamplerSelect."""
    return comfy.node("AmusedSamplerSelect", temperature_start=2.0, temperature_end=0.0, seeding=seeding)


def picture(count: int = 1, height: int = 32, width: int = 32, seed: int = 7) -> Tensor:
    """IMAGE [count,H,W,3] of noise."""
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(seed))


def latent(count: int = 1, height: int = 8, width: int = 8, seed: int = 5, codes: int = 64) -> dict[str, Tensor]:
    """LATENT whose tokens are all decided."""
    generator = torch.Generator().manual_seed(seed)
    return {"samples": torch.randint(1, codes + 1, (count, 1, height, width), generator=generator).float()}


def block_mask(height: int = 32, width: int = 32) -> Tensor:
    """MASK [1,H,W]: a rectangle of whole cells of 4 pixels, 5x4 of them."""
    mask = torch.zeros(1, height, width)
    mask[:, 8:28, 4:20] = 1
    return mask


def tokens(latent: dict[str, Tensor]) -> Tensor:
    """Tokens int64 [B,h,w] of a LATENT; -1 where masked."""
    return latent["samples"][:, 0].long() - 1


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Whether two LATENTs hold the same tokens."""
    return torch.equal(one["samples"], two["samples"])


def refused(comfy: Any, node: Any, *words: str) -> None:
    """The graph fails with one sentence of ours that holds `words`."""
    with pytest.raises(GraphError) as caught:
        comfy.run(node)
    assert caught.value.kind.endswith(("AmusedError", "CheckpointError")), f"{caught.value.kind}: {caught.value}"
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in {caught.value}"
