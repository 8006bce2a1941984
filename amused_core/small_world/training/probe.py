"""Which thing lies in each cell: what the trunk of the U-ViT has to know to complete a picture of many possible ones.

Where captions name every thing, the U-ViT learns to read it from the text and not from the tokens that are already
there, and captions that name none teach it that only in tens of thousands of pictures: every thing by itself. A linear
classifier on the trunk's cells, whose gradient also reaches the trunk, names what it lacks. It is not exported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..scenes.layout import CELL, PLACES, SIDE, Scene
from ..scenes.sprites import thing_index


def things_in_cells(scene: Scene) -> Tensor:
    """The thing that lies in each token's cell, int64 [h,w]: its number, counted from 1; 0 is background."""
    grid = torch.zeros(SIDE // CELL, SIDE // CELL, dtype=torch.int64)
    for name, place in zip(scene.things, (PLACES[place] for place in scene.places), strict=True):
        top, left, side = place.top // CELL, place.left // CELL, place.side // CELL
        grid[top : top + side, left : left + side] = 1 + thing_index(name)
    return grid


class ThingProbe(nn.Module):
    """Linear classifiers of `things` things, or none, on the outputs [B,n,width] of the last `layers` trunk layers."""

    def __init__(self, things: int, width: int, layers: int) -> None:
        super().__init__()
        self.classifiers = nn.ModuleList(nn.utils.skip_init(nn.Linear, width, 1 + things) for _ in range(layers))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    @contextmanager
    def watch(self, transformer: nn.Module) -> Iterator[list[Tensor]]:
        """Yields the list that the layers' outputs are put into while `transformer` runs."""
        outputs: list[Tensor] = []
        layers = transformer.transformer_layers[-len(self.classifiers) :]
        hooks = [layer.register_forward_hook(lambda _, inputs, output: outputs.append(output)) for layer in layers]
        try:
            yield outputs
        finally:
            for hook in hooks:
                hook.remove()

    def forward(self, outputs: Sequence[Tensor], things: Tensor) -> Tensor:
        """Mean cross entropy; `things` int64 [B,h,w] as in `things_in_cells`. A cell of the trunk that covers several
        cells of tokens counts as the thing that lies in any of them."""
        size = (things[0].numel() // outputs[0].shape[1]) ** 0.5
        right = F.max_pool2d(things.float(), int(size)).long().flatten()
        losses = [
            F.cross_entropy(classify(output.float()).flatten(0, 1), right)
            for classify, output in zip(self.classifiers, outputs, strict=True)
        ]
        return torch.stack(losses).mean()
