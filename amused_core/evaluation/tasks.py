"""The tasks besides text to picture: reconstruction, inpainting, picture to picture, diversity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..model import AmusedModel
from ..small_world.scenes.captions import plain_caption
from ..small_world.scenes.layout import CELL, PLACES, SIDE, Scene
from .drawing import Tell, draw
from .features import perceptual, summary
from .judge import read
from .metrics import (
    Number,
    bootstrap,
    code_entropy,
    different_tokens,
    distinct,
    frechet,
    mean_pairwise,
    number,
    psnr,
    rate,
)
from .prompts import Prompt, prompts
from .text import right
from .verdict import verdict
from .wanted import Wanted, wanted

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
_SEEDS_EACH = 100


def reconstruction(model: AmusedModel, target: Wanted) -> dict[str, Number]:
    """How well the VQ-GAN brings the true pictures back."""
    found = verdict(read(target.round_trip), target.scenes)
    return {
        "PSNR": bootstrap(target.ceiling, "dB"),
        "mean PSNR": bootstrap(target.ceiling, "dB", "mean"),
        "worst tenth": number(float(target.ceiling.quantile(0.1)), "dB"),
        "perceptual": bootstrap(perceptual(target.round_trip, target.planes), "", "mean"),
        "Frechet VQ": number(frechet(summary(target.round_trip), summary(target.planes))),
        "entropy VQ": number(code_entropy(target.tokens, model.vq.codebook_size), "bit"),
        "codes used": number(len(target.tokens.unique())),
        "judged right": rate(found.all),
    }


def holes(scenes: list[Scene]) -> Tensor:
    """The middle half (by side) of each scene's first thing, in whole cells: float32 [B,128,128], 1 inside."""
    masks = torch.zeros(len(scenes), SIDE, SIDE)
    for mask, scene in zip(masks, scenes, strict=True):
        place = PLACES[scene.places[0]]
        edge = place.side // (4 * CELL) * CELL
        mask[place.top + edge : place.top + place.side - edge, place.left + edge : place.left + place.side - edge] = 1
    return masks


def inpainting(
    model: AmusedModel, settings: dict[str, Any], count: int, seed: int, batch: int, tell: Tell | None = None
) -> tuple[dict[str, Number], Tensor, list[Prompt]]:
    """Fills a hole in the middle of each thing, with the prompt and without one."""
    asked = prompts("seen", count, seed)
    target = wanted(model, [prompt.scene for prompt in asked])
    masks = _sized(holes(target.scenes), target.pictures)
    texts = [prompt.text for prompt in asked]
    given = {"seed": seed, "batch": batch, "images": target.pictures, "masks": masks}
    with_prompt = draw(model, texts, settings, tell=tell, **given)
    without = draw(model, [""] * count, settings, tell=tell, **given)
    holed = holes(target.scenes)[:, None]
    factor = model.vq.factor
    kept = torch.nn.functional.max_pool2d(masks[:, None], factor)[:, 0] < 0.5
    equal = (with_prompt.tokens == target.tokens)[kept]
    inside = _inside(with_prompt.planes, target.planes, holed)
    ceiling = _inside(target.round_trip, target.planes, holed)
    row = {
        "PSNR in hole": bootstrap(inside, "dB"),
        "below VQ": bootstrap(ceiling - inside, "dB"),
        "without prompt": bootstrap(_inside(without.planes, target.planes, holed), "dB"),
        "kept tokens equal": number(float(equal.double().mean()), "%"),
        "right": rate(right(verdict(read(with_prompt.planes), target.scenes), with_prompt.planes, target)),
        "passes": number(with_prompt.passes),
    }
    return row, with_prompt.planes, asked


def variation(
    model: AmusedModel,
    settings: dict[str, Any],
    strength: float,
    count: int,
    seed: int,
    batch: int,
    tell: Tell | None = None,
) -> tuple[dict[str, Number], Tensor, list[Prompt]]:
    """Starts from the picture of one thing and asks for the thing of the next prompt in its place."""
    asked = prompts("seen", count + 1, seed)
    starts = [prompt.scene for prompt in asked[:-1]]
    goals = [Scene(b.scene.things, a.scene.places, a.scene.background) for a, b in zip(asked, asked[1:], strict=False)]
    new = [Prompt(plain_caption(scene), scene, "changed thing") for scene in goals]
    target = wanted(model, starts)
    given = {"seed": seed, "batch": batch, "images": target.pictures, "tell": tell}
    drawn = draw(model, [prompt.text for prompt in new], {**settings, "strength": strength}, **given)
    seen = read(drawn.planes)
    row = {
        "same tokens": bootstrap((drawn.tokens == target.tokens).flatten(1).float().mean(1), "%", "mean"),
        "PSNR to start": bootstrap(psnr(drawn.planes, target.planes), "dB"),
        "still the old thing": rate(verdict(seen, starts).object),
        "the new thing": rate(verdict(seen, goals).object),
        "background": rate(verdict(seen, goals).background),
        "passes": number(drawn.passes),
    }
    return row, drawn.planes, new


def diversity(
    model: AmusedModel, settings: dict[str, Any], count: int, seed: int, batch: int, tell: Tell | None = None
) -> tuple[dict[str, Number], Tensor, list[Prompt]]:
    """Draws a few prompts with many seeds each: are so many seeds so many pictures?"""
    chosen = max(1, min(5, count // 4))
    each = min(_SEEDS_EACH, max(1, count // chosen))
    asked = [prompt for prompt in prompts("seen", chosen, seed) for _ in range(each)]
    drawn = draw(model, [prompt.text for prompt in asked], settings, seed=seed, batch=batch, tell=tell)
    vectors = summary(drawn.planes)
    groups = [slice(start, start + each) for start in range(0, len(asked), each)]
    among = mean_pairwise(summary(wanted(model, [prompt.scene for prompt in prompts("seen", 50, seed)]).planes))
    within = sum(mean_pairwise(vectors[rows]) for rows in groups) / len(groups)
    shares = torch.tensor([distinct(drawn.tokens[rows]) / each for rows in groups])
    row = {
        "prompts": number(len(groups)),
        "seeds each": number(each),
        "distinct pictures": number(float(shares.mean()), "%"),
        "tokens that differ": number(sum(different_tokens(drawn.tokens[rows]) for rows in groups) / len(groups), "%"),
        "distance": number(within),
        "distance between things": number(among),
        "object": rate(verdict(read(drawn.planes), [prompt.scene for prompt in asked]).object),
        "passes": number(drawn.passes),
    }
    return row, drawn.planes, asked


def _inside(planes: Tensor, target: Tensor, holed: Tensor) -> Tensor:
    """PSNR of what lies where `holed` [B,1,128,128] is 1, dB [B]."""
    error = ((planes - target).square() * holed).flatten(1).sum(1) / (3 * holed.flatten(1).sum(1))
    return -10 * error.clamp_min(1e-10).log10()


def _sized(masks: Tensor, pictures: Tensor) -> Tensor:
    """[B,128,128] in the size of `pictures` [B,H,W,3]."""
    size = tuple(pictures.shape[1:3])
    return masks if masks.shape[1:] == size else torch.nn.functional.interpolate(masks[:, None], size)[:, 0]
