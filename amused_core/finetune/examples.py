"""Pictures with captions: one picture, a folder, or a JSONL file; unusable ones are left out and reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from ..errors import AmusedError, one_line
from ..images import pixels
from ..images.files import open_picture
from ..settings.inputs import texts
from .folder import DatasetReport, caption_of, pictures_in


@dataclass(frozen=True)
class Example:
    """A picture float [1,H,W,3] in 0..1, its caption, and the pixels cut off at its top and left."""

    picture: Tensor
    caption: str
    crop: tuple[int, int]


def read_examples(
    source: str | Path, caption: str | None, size: tuple[int, int], cell: int, report: DatasetReport
) -> Iterator[Example]:
    """Every usable example of `source`, brought to `size` (width, height); fills in `report`.

    Args:
        source: a picture, a folder of pictures each with a `.txt` or `.caption` beside it, or a `.jsonl` file whose
            lines are `{"image": path, "text": caption}` (paths relative to it).
        caption: for pictures that have none of their own.
        size: width and height, multiples of `cell`.
        cell: pixels per side of a token's cell; a picture with a smaller side is left out.

    Raises:
        AmusedError: nothing there, or nothing of it can be used.
    """
    for path, text in _pairs(Path(source), caption, report):
        try:
            picture = open_picture(str(path))
            if min(picture.size) < cell:
                raise AmusedError(f"{picture.width}x{picture.height} pixels is less than one token, {cell}x{cell}.")
            if not text.strip():
                raise AmusedError("its caption is empty.")
        except AmusedError as error:
            report.left_out.append((path.name, str(error)))
            continue
        if frames := _frames(path):
            report.changed.append((path.name, f"the first of {frames} frames is used"))
        fitted, crop, how = fit(pixels.images(picture, 1), *size)
        if how:
            report.changed.append((path.name, how))
        report.used += 1
        (text,) = texts(text.strip(), "caption")
        yield Example(fitted, text, crop)
    if not report.used:
        reasons = "; ".join(f"{name}: {why}" for name, why in report.left_out[:3]) or "no images are in it"
        raise AmusedError(f"Nothing in {str(source)!r} can be learnt from ({reasons}).")


def fit(images: Tensor, width: int, height: int) -> tuple[Tensor, tuple[int, int], str]:
    """Resizes [B,H,W,3] until it just covers the size, and cuts equally on both sides.

    Returns:
        [B,height,width,3]; the pixels cut off at top and left; and what was done, in words ("" for nothing).
    """
    old = images.shape[2], images.shape[1]
    if old == (width, height):
        return images, (0, 0), ""
    scale = max(width / old[0], height / old[1])
    across, down = max(width, round(old[0] * scale)), max(height, round(old[1] * scale))
    planes = images.movedim(-1, 1).float()
    planes = F.interpolate(planes, size=(down, across), mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (down - height) // 2, (across - width) // 2
    how = f"{old[0]}x{old[1]} resized to {across}x{down}"
    if (across, down) != (width, height):
        how += f" and cut to {width}x{height}"
    return planes[..., top : top + height, left : left + width].movedim(1, -1), (top, left), how


def _pairs(source: Path, caption: str | None, report: DatasetReport) -> list[tuple[Path, str]]:
    if source.suffix.lower() == ".jsonl" and source.is_file():
        return _jsonl(source, caption, report)
    if source.is_dir():
        files = pictures_in(source, report)
    elif source.is_file():
        files = [source]
    else:
        raise AmusedError(f"Nothing at {str(source)!r}; allowed are an image, a folder of images, or a .jsonl file.")
    return [(path, text) for path in files if (text := caption_of(path, caption, report)) is not None]


def _jsonl(source: Path, caption: str | None, report: DatasetReport) -> list[tuple[Path, str]]:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AmusedError(f"{str(source)!r} cannot be read: {one_line(error)}.") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            report.left_out.append((f"line {number}", f"it is no JSON: {error}"))
            continue
        image, text = (entry.get("image"), entry.get("text", caption)) if isinstance(entry, dict) else (None, None)
        if isinstance(image, str) and isinstance(text, str):
            pairs.append((source.parent / image, text))
        else:
            report.left_out.append((f"line {number}", 'it must be {"image": path, "text": caption}'))
    return pairs


def _frames(path: Path) -> int:
    """Frames of an animated picture, 0 of any other."""
    from PIL import Image

    with Image.open(path) as picture:
        return picture.n_frames if getattr(picture, "is_animated", False) else 0
