"""Keeping two processes from drawing the same shard of a job, or different jobs into one folder."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from ..errors import AmusedError
from .extra import filelock
from .ledger import FOLDER
from .store import Store

PREFIX, BEGINNING = f"{FOLDER}/lock-", f"{FOLDER}/lock-begin"


@contextmanager
def locked(store: Store, shard: tuple[int, int], begin: Callable[[bool], None], force: bool = False) -> Iterator[None]:
    """Holds the lock of one shard of the job in a folder.

    On a disk the system gives it up when the process ends, however that happens. Elsewhere it is an object that says
    who is at it; `force` takes it over.

    Args:
        store: the folder.
        shard: (i, n), which one.
        begin: called once the lock is held, and by one process at a time; told whether others hold one.
        force: see above.

    Raises:
        AmusedError: another process has it, or a shard of the job cut into another number of shards.
    """
    name = f"{PREFIX}{shard[0]}-of-{shard[1]}"
    with ExitStack() as held:
        with _file(store, BEGINNING, wait=True) if store.local else nullcontext():
            held.enter_context(_file(store, name) if store.local else _object(store, name, force))
            others = [] if force else [other for other in _locks(store) if other != name and _is_held(store, other)]
            for other in others:
                if not other.endswith(f"-of-{shard[1]}"):
                    raise _busy(store)
            begin(bool(others))
        yield


def _locks(store: Store) -> list[str]:
    names = (f"{FOLDER}/{name}" for name in store.names(FOLDER))
    return [name for name in names if name.startswith(PREFIX) and name != BEGINNING]


def _is_held(store: Store, name: str) -> bool:
    if not store.local:
        return True
    try:
        with _file(store, name):
            return False
    except AmusedError:
        return True


def _busy(store: Store) -> AmusedError:
    end = "stop it" if store.local else "if it has ended, go on with --unlock"
    return AmusedError(f"Another process is drawing into {store.url!r}; wait for it, or {end}.")


@contextmanager
def _file(store: Store, name: str, wait: bool = False) -> Iterator[None]:
    library = filelock()
    path = Path(store.root, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = library.FileLock(path, timeout=-1 if wait else 0)
        lock.acquire()
    except library.Timeout:
        raise _busy(store) from None
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
