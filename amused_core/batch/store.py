"""The folder a job writes to, on a disk or anywhere that fsspec reaches; files appear whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import AmusedError, one_line
from ..files.writing import beside
from .extra import fsspec


class Store:
    """A folder and what is in it; names are relative, with "/".

    Args:
        url: a path, or a URL of fsspec such as `s3://bucket/folder`.

    Raises:
        AmusedError: a URL that fsspec does not know or cannot reach.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.files, root = _reach(url)
        self.local = "file" in _protocols(self.files)
        self.root = root.rstrip("/") or "/"

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local file to fill, which is `name` when the block ends well; on a disk it is flushed, then renamed."""
        if self.local:
            with beside(Path(self.root, name)) as path:
                yield path
            return
        with tempfile.TemporaryDirectory() as folder, self._failing(name):
            path = Path(folder, "file")
            yield path
            self.files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            # Object stores show an object when all of it is there.
            self.files.put_file(str(path), self._path(name))

    def write(self, name: str, content: bytes) -> None:
        """Writes a whole file."""
        with self.writing(name) as path:
            path.write_bytes(content)

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """A file, open for reading."""
        with self._failing(name, "read"):
            file = self.files.open(self._path(name), "rb")
        with file:  # What fails in here may be the file that is written meanwhile.
            yield file

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of this name."""
        with self._failing(name, "read"):
            return self.files.exists(self._path(name))

    def names(self, folder: str = "") -> list[str]:
        """What is in a folder, sorted; nothing if it is not there."""
        path = self._path(folder)
        with self._failing(folder, "read"):
            try:
                self.files.invalidate_cache()
                found = self.files.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted({name.rstrip("/").rpartition("/")[2] for name in found} - {""})

    def size(self, name: str) -> int:
        """Bytes of a file."""
        with self._failing(name, "read"):
            return int(self.files.size(self._path(name)))

    def remove(self, name: str) -> None:
        """Removes a file, or a folder with all that is in it; nothing happens if it is not there."""
        with self._failing(name), suppress(FileNotFoundError):
            self.files.rm(self._path(name), recursive=True)

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}".rstrip("/") if name else self.root

    @contextmanager
    def _failing(self, name: str, verb: str = "written") -> Iterator[None]:
        """What a file system raises, as one sentence."""
        try:
            yield
        except OSError as error:
            raise AmusedError(f"{self._path(name)!r} cannot be {verb}: {one_line(error)}.") from error


@contextmanager
def open_url(url: str) -> Iterator[BinaryIO]:
    """A file or URL, open for reading.

    Raises:
        AmusedError: it is not there, or cannot be reached.
    """
    files, path = _reach(url)
    try:
        file = files.open(path, "rb")
    except FileNotFoundError:
        raise AmusedError(f"No file at {url!r}.") from None
    except OSError as error:
        raise AmusedError(f"{url!r} cannot be read: {one_line(error)}.") from error
    with file:
        yield file


def absolute(url: str) -> str:
    """A path that means the same in other folders; a URL stays."""
    return url if "://" in url else str(Path(url).absolute())


def split(url: str) -> tuple[str, str]:
    """Folder and name of a file or URL."""
    if "://" in url:
        folder, _, name = url.rpartition("/")
        return folder, name
    return str(Path(url).parent), Path(url).name


def neighbour(url: str, name: str) -> str:
    """The URL of a file that is named in the file `url`: names are relative to its folder."""
    if "://" in name or Path(name).is_absolute():
        return name
    return f"{split(url)[0]}/{name}" if "://" in url else str(Path(url).parent / name)


def _reach(url: str) -> tuple[Any, str]:
    try:
        return fsspec().core.url_to_fs(url)
    except (ValueError, ImportError, OSError) as error:
        raise AmusedError(f"{url!r} cannot be reached: {one_line(error)}.") from error


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)
