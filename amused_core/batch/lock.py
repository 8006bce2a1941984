"""Keeping two processes from drawing the same share of a job."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import AmusedError
from .extra import filelock
from .ledger import FOLDER
from .store import Store


@contextmanager
def locked(store: Store, shard: tuple[int, int], force: bool = False) -> Iterator[None]:
    """Holds the lock of one share of the job in a folder.

    On a disk the system gives it up when the process ends, however that happens. Elsewhere it is an object that says
    who is at it; `force` takes it over.

    Raises:
        AmusedError: another process has it.
    """
    name = f"{FOLDER}/lock-{shard[0]}-of-{shard[1]}"
    with _file(store, name) if store.local else _object(store, name, force):
        yield


@contextmanager
def _file(store: Store, name: str) -> Iterator[None]:
    library = filelock()
    path = Path(store.root, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = library.FileLock(path, timeout=0)
        lock.acquire()
    except library.Timeout:
        raise AmusedError(f"Another process is drawing into {store.url!r}; wait for it, or stop it.") from None
    except OSError as error:
        raise AmusedError(f"{str(path)!r} cannot be written ({error.strerror or error}).") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _object(store: Store, name: str, force: bool) -> Iterator[None]:
    if not force and store.exists(name):
        with store.reading(name) as file:
            owner = file.read().decode("utf-8", "replace")
        raise AmusedError(f"{store.url!r} is locked by {owner}; wait for it, or if it has ended, go on with --unlock.")
    store.write(name, f"process {os.getpid()} on {platform.node()}".encode())
    try:
        yield
    finally:
        store.remove(name)
