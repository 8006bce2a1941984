"""Draw every thing on every background with diffusers' pipeline and measure what came out.

python -m amused_core.training.evaluate --model FOLDER --output FOLDER [--cfg 1 1.5 2 3]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .captions import canonical
from .data import compose_all, find_font, render_all
from .grids import save_grid
from .progress import psnr
from .things import BACKGROUNDS, THINGS


def prompts() -> list[str]:
    """The plain caption of every training picture, the background running fastest."""
    return [canonical(thing, background) for thing in THINGS for background in BACKGROUNDS]


@torch.no_grad()
def draw(pipeline: Any, texts: Sequence[str], cfg: float, seed: int, batch: int = 25, **settings: Any) -> Tensor:
    """Draw `texts` with diffusers' `AmusedPipeline`: float `[B, 3, H, W]`. `settings` go to the pipeline."""
    settings = {"num_inference_steps": 12, "temperature": (2, 0), "height": 128, "width": 128} | settings
    pictures = []
    for start in range(0, len(texts), batch):
        generator = Generator()
        generator.manual_seed(seed + start)
        piece = list(texts[start : start + batch])
        output = pipeline(piece, guidance_scale=cfg, generator=generator, output_type="pt", **settings)
        pictures.append(output.images.float())
    return torch.cat(pictures)


def measure(pictures: Tensor, references: Tensor, wanted: Tensor, backgrounds: int) -> dict[str, float]:
    """Compare drawn `[B, 3, H, W]` with the `references` `[T * backgrounds, 3, H, W]` that were `wanted` (`[B]`).

    `psnr` and `psnr_worst_tenth` in dB; `picture@1`: the nearest of all references (at 32x32) is the right one;
    `thing@1`: it shows at least the right thing.
    """
    small = [F.adaptive_avg_pool2d(batch, 32).flatten(1) for batch in (pictures, references)]
    nearest = torch.cdist(*small).argmin(1)
    values = psnr(pictures, references[wanted])
    return {
        "psnr": float(values.mean()),
        "psnr_worst_tenth": float(values.quantile(0.1)),
        "picture@1": float((nearest == wanted).float().mean()),
        "thing@1": float((nearest // backgrounds == wanted // backgrounds).float().mean()),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per guidance value; write results.json and one grid per value."""
    from diffusers import AmusedPipeline

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--cfg", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rotate", action="store_true", help="one background per thing, in turn, instead of all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--font", help="path of NotoColorEmoji.ttf")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    pipeline = AmusedPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    references = compose_all(render_all([thing.glyph for thing in THINGS], find_font(args.font)))
    count = len(BACKGROUNDS)
    wanted = torch.arange(len(references))
    if args.rotate:
        wanted = torch.tensor([thing * count + thing % count for thing in range(len(THINGS))])
    texts = [prompts()[index] for index in wanted.tolist()]
    results = {}
    for cfg in args.cfg:
        pictures = draw(pipeline, texts, cfg, args.seed, num_inference_steps=args.steps)
        results[str(cfg)] = measure(pictures, references, wanted, count)
        values = psnr(pictures, references[wanted])
        weakest = [f"{texts[i]} {values[i]:.1f}" for i in values.argsort()[:8].tolist()]
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in results[str(cfg)].items())
        print(f"cfg {cfg:g}, {len(texts)} pictures: {numbers}; weakest: {', '.join(weakest)}", flush=True)
        save_grid(pictures, args.output / f"grid-cfg{cfg:g}.png", columns=10 if args.rotate else 4 * count)
    (args.output / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
