"""A folder of pictures with their captions beside them, and the report on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

CAPTIONS = (".txt", ".caption")
# Pictures that Pillow may not read: they are named when they are left out.
PICTURES = (
    ".arw", ".avif", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".heic", ".heif", ".hif", ".jp2", ".jxl", ".jxr", ".nef",
    ".orf", ".psd", ".qoi", ".raf", ".raw", ".rw2", ".svg", ".webp", ".xcf",
)  # fmt: skip


@dataclass
class DatasetReport:
    """How many pictures are used; `left_out` and `changed` are pairs of a name and the reason."""

    used: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)
    changed: list[tuple[str, str]] = field(default_factory=list)

    def text(self) -> str:
        """All of it, a line for each picture that was left out or changed."""
        lines = [f"{self.used} used, {len(self.left_out)} left out"]
        for title, pairs in (("left out", self.left_out), ("changed", self.changed)):
            lines += [f"{title}: {name}: {what}" for name, what in pairs]
        return "\n".join(lines)


def pictures_in(folder: Path, report: DatasetReport) -> list[Path]:
    """The files that Pillow may read, by their names; other pictures, and folders with pictures, are reported."""
    endings = _readable()
    paths = sorted(folder.iterdir())
    files = [path for path in paths if path.is_file()]
    readable = [path for path in files if path.suffix.lower() in endings]
    described = {path.stem for path in files if path.suffix in CAPTIONS} - {path.stem for path in readable}
    for path in files:
        ending = path.suffix.lower()
        if ending in endings or ending in CAPTIONS:
            continue
        # A caption tells that a file is meant as a picture.
        if ending in PICTURES or path.stem in described:
            kind = f"no {ending} files" if ending else "no files without an ending"
            report.left_out.append((path.name, f"Pillow reads {kind} here; save it as .png or .jpg"))
    for path in paths:
        if path.is_dir() and any(file.suffix.lower() in endings for file in path.iterdir()):
            report.left_out.append((path.name, "it is a folder; images in it are not read"))
    return readable


def caption_of(path: Path, caption: str | None, report: DatasetReport) -> str | None:
    """What the text file beside a picture says, else `caption`; None, and reported, where there is neither."""
    beside = [file for ending in CAPTIONS if (file := path.with_suffix(ending)).is_file()]
    for other in beside[1:]:
        report.changed.append((path.name, f"its caption is that of {beside[0].name}; {other.name} is not read"))
    if beside:
        try:
            return beside[0].read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            report.left_out.append((path.name, f"its caption {beside[0].name} cannot be read: {error}"))
            return None
    if caption is None:
        names = " or ".join(path.with_suffix(ending).name for ending in CAPTIONS)
        report.left_out.append((path.name, f"it has no caption: there is no {names}"))
    return caption


def _readable() -> set[str]:
    """Endings of the files that Pillow opens, with the plugins that are loaded."""
    from PIL import Image

    return {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
