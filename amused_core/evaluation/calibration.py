"""The judge's own error: what it says of pictures whose right answer is known."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..model import AmusedModel
from ..small_world.scenes.layout import Scene
from ..small_world.scenes.things import THINGS
from .accuracy import accuracy
from .metrics import Number
from .prompts import prompts
from .targets import Targets, decode_tokens, make_targets

COLUMNS = ("right", "object", "background", "place", "relation")
_SETS = ("seen", "combinations", "relations")
_BLUR = (5, 2.0)


def judge_error(model: AmusedModel, count: int, seed: int = 0) -> dict[str, dict[str, Number]]:
    """The judge on `count` true pictures and on damaged ones, a row of `accuracy` for each kind of picture.

    "other thing" means tokens of another thing's picture at the same places on the same background. From half on, such
    a picture is no longer right: what the strict measure then still lets through is its error.
    """
    generator = Generator()
    generator.manual_seed(seed)
    share = -(-count // len(_SETS))
    scenes = [prompt.scene for name in _SETS for prompt in prompts(name, share, seed + 1)][:count]
    target = make_targets(model, scenes)
    other = make_targets(model, [_another(scene, generator) for scene in scenes])
    kinds: dict[str, Callable[[], Tensor]] = {
        "true pictures": lambda: target.planes,
        "after the VQ": lambda: target.round_trip,
        "noise 0.1": lambda: noisy(target.planes, 0.1, generator),
        "blur": lambda: blurred(target.planes),
        "10 % tokens of another thing": lambda: decode_tokens(model, _mixed(target, other.tokens, 0.1, generator)),
        "10 % random tokens": lambda: decode_tokens(model, _mixed(target, None, 0.1, generator)),
        "30 % random tokens": lambda: decode_tokens(model, _mixed(target, None, 0.3, generator)),
        "50 % tokens of another thing": lambda: decode_tokens(model, _mixed(target, other.tokens, 0.5, generator)),
        "another thing": lambda: other.round_trip,
    }
    return {name: _columns(accuracy(make(), target)) for name, make in kinds.items()}


def _columns(row: dict[str, Number]) -> dict[str, Number]:
    """The columns that concern the judge; without "below VQ" for true pictures, which have no such distance."""
    return {name: row[name] for name in (*COLUMNS, "below VQ") if name in COLUMNS or row["PSNR"]["value"] < 100}


def noisy(planes: Tensor, sigma: float, generator: Generator) -> Tensor:
    """`planes` with Gaussian noise of `sigma`, clipped."""
    return (planes + sigma * torch.randn(planes.shape, generator=generator)).clamp(0, 1)


def blurred(planes: Tensor) -> Tensor:
    """`planes` through a Gaussian of 2 pixels."""
    reach, sigma = _BLUR
    line = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * sigma**2))
    kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, -1, -1)
    return F.conv2d(F.pad(planes, (reach,) * 4, mode="replicate"), kernel, groups=3)


def _mixed(target: Targets, tokens: Tensor | None, share: float, generator: Generator) -> Tensor:
    """The tokens of the true pictures, a `share` of them from `tokens` or, if None, from anywhere in `target`."""
    if tokens is None:
        pool = target.tokens.flatten()
        tokens = pool[torch.randint(len(pool), target.tokens.shape, generator=generator)]
    return torch.where(torch.rand(target.tokens.shape, generator=generator) < share, tokens, target.tokens)


def _another(scene: Scene, generator: Generator) -> Scene:
    """The same scene of other things."""
    order = [THINGS[number].name for number in torch.randperm(len(THINGS), generator=generator).tolist()]
    fresh = [name for name in order if name not in scene.things]
    return Scene(tuple(fresh[: len(scene.things)]), scene.places, scene.background)
