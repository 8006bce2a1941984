"""Progress of a whole job in ComfyUI: a bar over all its pictures, and the last ones as a preview."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
from PIL import Image
from torch import Tensor

from ....amused_core.batch.writer import Progress
from ....amused_core.images.grids import make_grid
from ....amused_core.sampling.loop import Step

# A bar counts in whole numbers: this many a picture.
UNITS = 100
# Of a preview: pictures, and pixels of its longer side.
MOST, SIDE = 16, 512


class JobProgress:
    """Shows where a job is. Both methods let ComfyUI's interrupt pass through."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown = self._total = 0
        self._before = self._drawn = 0

    def on_progress(self, progress: Progress) -> None:
        """Pictures are stored."""
        self._before = progress.done - progress.drawn
        self._total = progress.total * UNITS
        self._show(progress.done * UNITS, None if progress.images is None else _sheet(progress.images))

    def on_step(self, step: Step) -> None:
        """A step of a batch is done."""
        count = len(step.tokens)
        position = self._before + self._drawn + count * (step.index + 1) / step.total
        if step.index + 1 == step.total:
            self._drawn += count
        self._show(int(position * UNITS))

    def _show(self, position: int, preview: Any = None) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(max(1, self._total))
        # Pictures are stored later than they are drawn.
        self._shown = max(self._shown, min(position, self._total))
        self._bar.update_absolute(self._shown, max(1, self._total), preview)


def _sheet(images: Tensor) -> tuple[str, Image.Image, int]:
    images = images[-MOST:].movedim(-1, 1)
    sheet = make_grid(images, columns=round(len(images) ** 0.5)).clamp(0, 1)
    return "JPEG", Image.fromarray((sheet * 255).round().byte().permute(1, 2, 0).numpy()), SIDE
