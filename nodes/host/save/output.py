"""Names of new files in ComfyUI's output folder."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ....amused_core.errors import AmusedError


def numbered(prefix: str, ending: str = "") -> Path:
    """A path below the output folder that is free: `prefix` (may hold folders), ComfyUI's number, and `ending`.

    Raises:
        AmusedError: an empty prefix, or one that leads out of the output folder.
    """
    output = os.path.abspath(folder_paths.get_output_directory())
    target = os.path.abspath(os.path.join(output, prefix))
    if not prefix.strip() or not target.startswith(output + os.sep) or not os.path.basename(prefix):
        raise AmusedError(
            f"filename_prefix is {prefix!r}; allowed are names below the output folder, such as 'amused/name'."
        )
    folder, name, count, _, _ = folder_paths.get_save_image_path(prefix, output)
    while (path := Path(folder, f"{name}_{count:05}_{ending}")).exists():
        count += 1
    return path


def shown(path: Path) -> dict[str, str]:
    """A saved file as ComfyUI's history names it."""
    place = path.relative_to(os.path.abspath(folder_paths.get_output_directory()))
    folder = "" if place.parent == Path() else place.parent.as_posix()
    return {"filename": place.name, "subfolder": folder, "type": "output"}
