"""How much of a picture's style a LoRA gives to other things, before and after; see docs/finetuning.md.

    python tools/measure_style.py STYLE.png LORA.safetensors "a {thing} on a dotted background"

Style is compared by the correlations of feature maps (Gram matrices, Gatys et al. 2016) on the fixed random filters of
`amused eval`, in the four corners, which show the ground. The distance is relative: 0 is the style picture itself, 1
the mean distance of the pictures before.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COUNT, SEED, CORNER = 100, 0, 32


def main(style: str, lora: str, template: str) -> None:
    """Prints the mean style distance of `COUNT` things before and after, with 95 % intervals."""
    sys.path.insert(0, str(ROOT))
    import torch

    from amused_core import load_model
    from amused_core.evaluation.features import to_planes
    from amused_core.evaluation.metrics import bootstrap
    from amused_core.images.files import open_picture
    from amused_core.images.pixels import images
    from amused_core.small_world.scenes.things import THINGS

    prompts = [template.format(thing=thing.name) for thing in THINGS[:COUNT]]
    wanted = grams(to_planes(images(open_picture(style), 1)))
    model, distances = load_model(), []
    for loaded in (False, True):
        if loaded:
            model.load_lora(lora)
        drawn = [model.generate(prompts[i : i + 20], seed=SEED + i).images for i in range(0, COUNT, 20)]
        distances.append(apart(grams(to_planes(torch.cat(drawn))), wanted))
    scale = distances[0].mean()
    for name, values in zip(("before", "after"), distances, strict=True):
        print(name, {k: round(v, 3) for k, v in bootstrap(values / scale, "", "mean").items() if k != "unit"})


def grams(planes: Any) -> list[Any]:
    """The Gram matrices of every layer's maps in the corners of [B,3,H,W] pictures, float32 [B,C,C] each."""
    from amused_core.evaluation.features import maps

    ends = (slice(0, CORNER), slice(-CORNER, None))
    corners = [maps(planes[:, :, down, across]) for down in ends for across in ends]
    flat = [[layer.flatten(2) for layer in layers] for layers in zip(*corners, strict=True)]
    return [sum(part @ part.transpose(1, 2) for part in parts) for parts in flat]


def apart(found: list[Any], wanted: list[Any]) -> Any:
    """Mean over layers of the relative distance of Gram matrices, float32 [B]."""
    return sum((a - b).flatten(1).norm(dim=1) / b.flatten(1).norm() for a, b in zip(found, wanted, strict=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
