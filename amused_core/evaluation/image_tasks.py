"""The tasks besides text to image: reconstruction, inpainting, image to image, diversity."""

from __future__ import annotations

import torch
from torch import Tensor

from ..images.psnr import psnr
from ..small_world.scenes.captions import plain_caption
from ..small_world.scenes.layout import CELL, PLACES, SIDE, Scene
from .accuracy import right
from .features import perceptual, summary
from .judge import read
from .metrics import bootstrap, code_entropy, different_tokens, distinct, frechet, mean_pairwise, number, rate
from .prompts import prompts
from .targets import make_targets
from .task import CellSettings, Evaluation, TaskResult, cell_name
from .verdict import verdict

STRENGTHS = {f"strength {strength:g}": strength for strength in (0.2, 0.4, 0.6, 0.8, 1.0)}
"""The parts of `variation`."""
_SEEDS_EACH = 100


def reconstruction(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    """How well the VQ-GAN reconstructs the true pictures of a prompt set (`part`)."""
    _, targets = evaluation.targets_of(part)
    result = verdict(read(targets.round_trip), targets.scenes)
    row = {
        "PSNR": bootstrap(targets.ceiling, "dB"),
        "mean PSNR": bootstrap(targets.ceiling, "dB", "mean"),
        "worst tenth": number(float(targets.ceiling.quantile(0.1)), "dB"),
        "perceptual": bootstrap(perceptual(targets.round_trip, targets.planes), "", "mean"),
        "Frechet VQ": number(frechet(summary(targets.round_trip), summary(targets.planes))),
        "entropy VQ": number(code_entropy(targets.tokens, evaluation.model.vq.codebook_size), "bit"),
        "codes used": number(len(targets.tokens.unique())),
        "judged right": rate(result.all),
    }
    return TaskResult({"row": row})


def holes(scenes: list[Scene]) -> Tensor:
    """The middle half (by side) of each scene's first thing, in whole cells: float32 [B,128,128], 1 inside."""
    masks = torch.zeros(len(scenes), SIDE, SIDE)
    for mask, scene in zip(masks, scenes, strict=True):
        place = PLACES[scene.places[0]]
        edge = place.side // (4 * CELL) * CELL
        mask[place.top + edge : place.top + place.side - edge, place.left + edge : place.left + place.side - edge] = 1
    return masks


def inpainting(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    """Fills a hole in the middle of each thing, with the prompt and without one."""
    requests, targets = evaluation.targets_of("seen")
    masks = _resize(holes(targets.scenes), targets.pictures)
    texts, name = [prompt.text for prompt in requests], cell_name("inpainting", part, settings)
    inputs = {"images": targets.pictures, "masks": masks}
    with_prompt = evaluation.generate(name, texts, settings, **inputs)
    without = evaluation.generate(name, [""] * len(texts), settings, **inputs)
    hole = holes(targets.scenes)[:, None]
    kept = torch.nn.functional.max_pool2d(masks[:, None], evaluation.model.vq.factor)[:, 0] < 0.5
    equal = (with_prompt.tokens == targets.tokens)[kept]
    inside = _psnr_inside(with_prompt.planes, targets.planes, hole)
    ceiling = _psnr_inside(targets.round_trip, targets.planes, hole)
    result = verdict(read(with_prompt.planes), targets.scenes)
    row = {
        "PSNR in hole": bootstrap(inside, "dB"),
        "below VQ": bootstrap(ceiling - inside, "dB"),
        "without prompt": bootstrap(_psnr_inside(without.planes, targets.planes, hole), "dB"),
        "kept tokens equal": number(float(equal.double().mean()), "%"),
        "right": rate(right(result, with_prompt.planes, targets)),
        "passes": number(with_prompt.passes),
    }
    return TaskResult({"row": row}, with_prompt.planes, texts)


def variation(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    """Image to image at one of `STRENGTHS`: from the picture of one thing to the next prompt's thing in its place."""
    model, plan = evaluation.model, evaluation.plan
    requests = prompts("seen", plan.count + 1, plan.seed)
    starts = [prompt.scene for prompt in requests[:-1]]
    goals = [Scene(new.scene.things, old.places, old.background) for old, new in zip(starts, requests[1:], strict=True)]
    texts, name = [plain_caption(scene) for scene in goals], cell_name("variation", part, settings)
    targets = make_targets(model, starts)
    options = {**settings, "strength": STRENGTHS[part]}
    images = evaluation.generate(name, texts, options, images=targets.pictures)
    reading = read(images.planes)
    row = {
        "same tokens": bootstrap((images.tokens == targets.tokens).flatten(1).float().mean(1), "%", "mean"),
        "PSNR to start": bootstrap(psnr(images.planes, targets.planes), "dB"),
        "still the old thing": rate(verdict(reading, starts).object),
        "the new thing": rate(verdict(reading, goals).object),
        "background": rate(verdict(reading, goals).background),
        "passes": number(images.passes),
    }
    return TaskResult({"row": row}, images.planes, texts)


def diversity(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    """Draws a few prompts with many seeds each: are so many seeds so many pictures?"""
    model, count, seed = evaluation.model, evaluation.plan.count, evaluation.plan.seed
    chosen = max(1, min(5, count // 4))
    each = min(_SEEDS_EACH, max(1, count // chosen))
    requests = [prompt for prompt in prompts("seen", chosen, seed) for _ in range(each)]
    texts = [prompt.text for prompt in requests]
    images = evaluation.generate(cell_name("diversity", part, settings), texts, settings)
    vectors = summary(images.planes)
    groups = [slice(start, start + each) for start in range(0, len(requests), each)]
    among = mean_pairwise(summary(make_targets(model, [prompt.scene for prompt in prompts("seen", 50, seed)]).planes))
    within = sum(mean_pairwise(vectors[rows]) for rows in groups) / len(groups)
    shares = torch.tensor([distinct(images.tokens[rows]) / each for rows in groups])
    row = {
        "prompts": number(len(groups)),
        "seeds each": number(each),
        "distinct pictures": number(float(shares.mean()), "%"),
        "tokens that differ": number(sum(different_tokens(images.tokens[rows]) for rows in groups) / len(groups), "%"),
        "distance": number(within),
        "distance between things": number(among),
        "object": rate(verdict(read(images.planes), [prompt.scene for prompt in requests]).object),
        "passes": number(images.passes),
    }
    return TaskResult({"row": row}, images.planes, texts)


def _psnr_inside(planes: Tensor, target: Tensor, hole: Tensor) -> Tensor:
    """PSNR of what lies where `hole` [B,1,128,128] is 1, dB [B]."""
    error = ((planes - target).square() * hole).flatten(1).sum(1) / (3 * hole.flatten(1).sum(1))
    return -10 * error.clamp_min(1e-10).log10()


def _resize(masks: Tensor, pictures: Tensor) -> Tensor:
    """`masks` [B,128,128] resized to `pictures` [B,H,W,3]."""
    size = tuple(pictures.shape[1:3])
    return masks if masks.shape[1:] == size else torch.nn.functional.interpolate(masks[:, None], size)[:, 0]
