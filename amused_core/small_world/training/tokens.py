"""Find the tokens of every thing and background, from which the tokens of any scene are put together.

The VQ encoder sees far more than one cell, so a cell of a thing may get another code on another background or in
another place. That is noise a token model cannot predict. So every cell of a thing gets one code, the nearest to its
mean latent over all backgrounds and places, and flat background one code per colour. The decoder fills in the
background around a thing from the flat cells beside it, which `vq.py` taught it.

python -m amused_core.small_world.training.tokens --run RUN
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...files.training_state import load_modules, load_state, save_state
from ...images.psnr import psnr
from ..scenes.layout import CELL, CORNERS, LARGE_SIDE, PLACES, SIDE, SMALL_SIDE, WHOLE, Scene
from ..scenes.sprites import background_colours, draw, over, sprites, thing_index
from ..scenes.things import BACKGROUNDS, THINGS
from .codebook import nearest
from .vq import build_vq, held_out_scenes
from .vq_data import flat_cells

GRID = SIDE // CELL
EMPTY = -1  # a cell without any thing


@torch.no_grad()
def encode(model: nn.Module, pictures: Tensor, batch: int = 20) -> Tensor:
    """Token ids int64 `[B, h, w]` of float pictures `[B, 3, H, W]` by diffusers' `VQModel`."""
    parts = []
    for piece in pictures.split(batch):
        latents = model.encode(piece).latents
        parts.append(model.quantize(latents)[2][2].reshape(len(piece), *latents.shape[-2:]))
    return torch.cat(parts)


@torch.no_grad()
def decode(model: nn.Module, tokens: Tensor, batch: int = 20) -> Tensor:
    """Float pictures `[B, 3, H, W]` (0..1) of token ids `[B, h, w]`."""
    parts = []
    for piece in tokens.long().split(batch):
        shape = (*piece.shape, model.config.latent_channels)
        parts.append(model.decode(piece, force_not_quantize=True, shape=shape).sample)
    return torch.cat(parts).clamp(0, 1)


@dataclass(frozen=True)
class SceneTokens:
    """The tokens that scenes consist of, all int64.

    Attributes:
        large: `[things, 14, 14]`, `EMPTY` where a cell shows only background.
        small: `[things, 8, 8]`, likewise.
        flat: `[backgrounds]`.
    """

    large: Tensor
    small: Tensor
    flat: Tensor

    def of(self, scene: Scene) -> Tensor:
        """The tokens of `scene`, int64 `[16, 16]`."""
        grid = torch.full((GRID, GRID), EMPTY)
        for thing, name in zip(scene.things, scene.places, strict=True):
            place = PLACES[name]
            top, left, side = place.top // CELL, place.left // CELL, place.side // CELL
            sprite = (self.large if place.side == LARGE_SIDE else self.small)[thing_index(thing)]
            grid[top : top + side, left : left + side] = sprite
        background = self.flat[list(BACKGROUNDS).index(scene.background)]
        return torch.where(grid == EMPTY, background, grid)

    def save(self, path: Path) -> None:
        """Write the tables as one file."""
        tables = {"large": self.large, "small": self.small, "flat": self.flat}
        meta = {"things": [thing.name for thing in THINGS], "backgrounds": list(BACKGROUNDS)}
        save_state(path, {name: table.to(torch.int16) for name, table in tables.items()}, meta)

    @classmethod
    def load(cls, path: Path) -> SceneTokens:
        """Read what `save` wrote; raises ValueError when it belongs to another word list."""
        tensors, meta = load_state(path)
        if meta["things"] != [thing.name for thing in THINGS] or meta["backgrounds"] != list(BACKGROUNDS):
            raise ValueError(f"{str(path)!r} was made with another word list: run training.tokens again.")
        return cls(**{name: tensor.long() for name, tensor in tensors.items()})


def _mean_latents(model: nn.Module, cuts: Tensor) -> tuple[Tensor, Tensor]:
    """Latents of uint8 RGBA `[B, 4, H, W]`, averaged over all backgrounds `[B, D, h, w]`, and those on each of them
    where a cell is flat (`[backgrounds, cells, D]`)."""
    total, flats = torch.zeros(()), []
    empty = flat_cells(cuts)[:, 0]
    for colour in background_colours():
        pictures = over(cuts, colour.expand(len(cuts), 3))
        latents = torch.cat([model.encode(piece).latents for piece in pictures.split(20)])
        total = total + latents
        flats.append(latents.permute(0, 2, 3, 1)[empty])
    return total / len(flats), torch.stack(flats)


def _codes(model: nn.Module, latents: Tensor, cuts: Tensor) -> Tensor:
    """Nearest codes of latents `[B, D, h, w]`, `EMPTY` where `cuts` shows no thing: int64 `[B, h, w]`."""
    rows = latents.permute(0, 2, 3, 1)
    codes = nearest(rows.flatten(0, 2), model.quantize.embedding.weight).reshape(rows.shape[:3])
    return codes.masked_fill(flat_cells(cuts)[:, 0], EMPTY)


def _large_things() -> Tensor:
    """Every thing large: uint8 RGBA `[things, 4, SIDE, SIDE]`."""
    place = PLACES[WHOLE]
    inside = slice(place.top, place.top + LARGE_SIDE)
    pictures = torch.zeros(len(THINGS), 4, SIDE, SIDE, dtype=torch.uint8)
    pictures[:, :, inside, inside] = sprites()[LARGE_SIDE]
    return pictures


def _four_corners(numbers: Sequence[int]) -> Tensor:
    """Small things `numbers` in the four corners: uint8 RGBA `[4, H, W]`."""
    picture = torch.zeros(4, SIDE, SIDE, dtype=torch.uint8)
    for number, corner in zip(numbers, CORNERS, strict=True):
        place = PLACES[corner]
        rows, columns = slice(place.top, place.top + SMALL_SIDE), slice(place.left, place.left + SMALL_SIDE)
        picture[:, rows, columns] = sprites()[SMALL_SIDE][number]
    return picture


@torch.no_grad()
def find_tokens(model: nn.Module) -> SceneTokens:
    """The tables for `model`, diffusers' `VQModel`."""
    count, names = len(THINGS), list(BACKGROUNDS)
    cuts = _large_things()
    latents, flats = _mean_latents(model, cuts)
    border = PLACES[WHOLE].top // CELL
    large = _codes(model, latents, cuts)[:, border:-border, border:-border]
    weight = model.quantize.embedding.weight
    flat = torch.stack([nearest(rows, weight).mode().values for rows in flats[: len(names)]])

    side = SMALL_SIDE // CELL
    total = torch.zeros(count, model.config.latent_channels, side, side)
    for turn in range(4):  # every thing once in every corner
        quads = [[(4 * start + (corner + turn) % 4) % count for corner in range(4)] for start in range(-(-count // 4))]
        latents, _ = _mean_latents(model, torch.stack([_four_corners(quad) for quad in quads]))
        for quad, latent in zip(quads, latents, strict=True):
            for number, corner in zip(quad, CORNERS, strict=True):
                top, left = PLACES[corner].top // CELL, PLACES[corner].left // CELL
                total[number] += latent[:, top : top + side, left : left + side]
    # 4 turns each; a word list that is no multiple of four meets its first things more often.
    meetings = torch.bincount(torch.arange(-(-count // 4) * 4) % count, minlength=count) * 4
    small = _codes(model, total / meetings[:, None, None, None], sprites()[SMALL_SIDE])
    return SceneTokens(large, small, flat)


def load_vq(path: Path) -> nn.Module:
    """The VQ-GAN of a training checkpoint, in eval mode."""
    tensors, _ = load_state(path)
    model = build_vq()
    load_modules(tensors, model=model)
    return model.eval()


def same_codes(model: nn.Module) -> float:
    """Share of thing cells (large things) whose code is the same on another background: how local the encoder is."""
    cuts = _large_things()
    things = ~flat_cells(cuts)[:, 0]
    first, other = (encode(model, over(cuts, background_colours()[[index]].expand(len(cuts), 3))) for index in (0, 7))
    return float((first == other)[things].float().mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Write RUN/tokens.safetensors from RUN/vq.safetensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path)
    args = parser.parse_args(argv)
    model = load_vq(args.run / "vq.safetensors")
    tokens = find_tokens(model)
    tokens.save(args.run / "tokens.safetensors")
    scenes = held_out_scenes()
    pictures = draw(scenes)
    encoded = psnr(decode(model, encode(model, pictures)), pictures)
    put = psnr(decode(model, torch.stack([tokens.of(scene) for scene in scenes])), pictures)
    print(f"{len(scenes)} scenes: {encoded.mean():.2f} dB as encoded, {put.mean():.2f} dB put together")
    print(f"codes of thing cells that stay the same on another background: {same_codes(model):.1%}")
    print(f"codes in use: {len(torch.cat([t.flatten() for t in (tokens.large, tokens.small, tokens.flat)]).unique())}")


if __name__ == "__main__":
    main()
