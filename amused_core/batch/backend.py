"""What draws the pictures of a batch job, as the engine sees it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from .pictures import Picture


@dataclass(frozen=True)
class Drawn:
    """What came out of one batch.

    Attributes:
        tokens: int64 [B,h,w].
        settings: of each picture, all that draws it again; plain values.
        images: gives float [B,H,W,3] in 0..1; called at most once, in another thread, while the next batch is drawn.
    """

    tokens: Tensor
    settings: list[dict[str, Any]]
    images: Callable[[], Tensor]


class Backend(Protocol):
    """Draws batches. `AmusedError` from `group` or `draw` makes a picture a bad row; all else stops the job."""

    def identity(self) -> dict[str, Any]:
        """What the pictures depend on beside their arguments, for the manifest; plain values."""

    def group(self, picture: Picture) -> Hashable:
        """Equal for pictures that can be drawn as one batch.

        Raises:
            AmusedError: the picture cannot be drawn.
        """

    def batch_size(self, picture: Picture) -> int:
        """How many pictures like this one to draw at a time."""

    def draw(self, pictures: Sequence[Picture]) -> Drawn:
        """Draws pictures of one group."""
