"""Files of one kind in ComfyUI's input folder, for a widget that lists them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import folder_paths

from ....amused_core.errors import AmusedError
from .listing import Remembered, Stamp, scan, stamp

# What a node shows before a file is chosen.
NONE = "none"
# Of the names that an error lists.
MOST = 20


class InputFiles:
    """Files whose names have one of some endings.

    Args:
        noun: what people call one.
        endings: in lower case.
    """

    def __init__(self, noun: str, *endings: str) -> None:
        self.noun, self.endings = noun, endings
        self._names = Remembered(self._list)

    def names(self) -> list[str]:
        """The files to choose from, sorted."""
        return self._names(folder_paths.get_input_directory())

    def path(self, name: str) -> Path:
        """The file of that name; ComfyUI's ending " [output]" names the output folder.

        Raises:
            AmusedError: no such file, or one elsewhere.
        """
        plain, folder = folder_paths.annotated_filepath(name)
        root = Path(folder or folder_paths.get_input_directory()).resolve()
        what = f"No {self.noun} is chosen" if name == NONE else f"The {self.noun} {name!r} is not there"
        try:
            path = (root / plain.replace("\\", "/")).resolve()
            there = path.is_relative_to(root) and path.is_file()
        except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a name that no file can have
            what, there = f"The {self.noun} {name!r} cannot be read ({error})", False
        if not there:
            raise AmusedError(f"{what}; allowed are files in {str(root)!r}, where {self._known()}.")
        return path

    def fingerprint(self, name: str) -> tuple[str, Stamp]:
        """Path, time and size: changes when the file is replaced."""
        path = self.path(name)
        return str(path), stamp(path)

    def problem(self, name: str | None) -> str | None:
        """What is wrong with a name, or None; also None for a name that is not known yet."""
        try:
            if name is not None:
                self.path(name)
        except AmusedError as error:
            return str(error)
        return None

    def _known(self) -> str:
        names = self.names()
        more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
        return f"there is {', '.join(names[:MOST])}{more}" if names else f"there is no {' or '.join(self.endings)} file"

    def _list(self, note: Callable[[str], Stamp], folder: str) -> list[str]:
        note(folder)
        return [entry.name for entry in scan(folder, self.endings) if entry.is_file()]
