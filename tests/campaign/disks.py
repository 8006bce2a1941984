"""Disks that are full or read-only: one sentence, no broken file, no leftovers, and the next run ends well.

A memory disk where one may be mounted; elsewhere only files are limited in size (RLIMIT_FSIZE), which is said.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tests.campaign.records import Fault, Record, shorten
from tests.campaign.tasks import TAKEN, Task, begin, broken, finish, leftovers, tasks
from tests.campaign.world import World

ROOM = 64 * 2**20


class Kind:
    """Blocks of one full disk for each task, and a read-only one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said = world.folder / "said.txt"
        self.disk = world.folder / "disk"
        self.disk.mkdir()
        self.mounts = self._mount(f"size={ROOM}")
        self.sizes = {}
        for task in tasks(world):
            self._empty()
            finish(begin(task.line(self.disk), self.said))
            self.sizes[task] = sum(path.stat().st_size for path in self.disk.rglob("*") if path.is_file())

    def block(self, record: Record, seed: int, known: set[str]) -> None:
        """Adds to `record` what a full disk shows for each task."""
        chance = Random(seed)
        record.figures["memory disk" if self.mounts else "limited files"] = 1
        for task in self.sizes:
            self._empty()
            room = int(self.sizes[task] * chance.random()) // 4096 * 4096
            if chance.random() < 0.1 and self.mounts:
                faults = self._try(task, "read-only", lambda: None, "remount,ro")
            elif self.mounts:
                faults = self._try(task, f"{room} bytes", lambda: None, f"remount,size={max(room, 4096)}")
            else:
                limit = max(self.sizes[task] // 4, 1)
                faults = self._try(task, f"files of {limit} bytes", lambda limit=limit: limit_files(limit))
            record.cases += 1
            for fault in faults:
                record.bad += 1
                if fault.place not in known:
                    record.faults.append(fault)

    def _try(self, task: Task, case: str, before: Callable[[], None], *options: str) -> Iterator[Fault]:
        for option in options:
            self._mount(option)
        code = finish(begin(task.line(self.disk), self.said, before))
        said = self.said.read_text(errors="replace")
        line = (said.strip().splitlines() or [""])[-1]
        if code not in (0, 2, 3) or (code == 2 and not (line.startswith("amused: ") and line.endswith("."))):
            yield Fault(f"{task.name}: no sentence", f"it ended with {code}: {shorten(said[-1500:], 1500)}", case)
        if found := broken(self.disk):
            yield Fault(f"{task.name}: broken file", shorten(found), case)
        if left := leftovers(self.disk):
            yield Fault(f"{task.name}: left over", shorten(left), case)
        self._mount(f"remount,rw,size={ROOM}")
        code, said = finish(begin(task.line(self.disk), self.said)), self.said.read_text(errors="replace")
        if code and not (code == 2 and TAKEN in said):
            yield Fault(f"{task.name}: the next run", f"it ended with {code}: {shorten(said[-1500:], 1500)}", case)

    def _mount(self, option: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(self.disk)]
        return bool(shutil.which("mount")) and not subprocess.run(command, capture_output=True).returncode

    def _empty(self) -> None:
        for path in self.disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def close(self) -> None:
        """Unmounts the disk."""
        if self.mounts:
            subprocess.run(["umount", str(self.disk)], capture_output=True)


def limit_files(size: int) -> None:
    """Makes writing fail beyond `size` bytes of a file, in this process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@contextlib.contextmanager
def kind(folder: Path) -> Iterator[Kind]:
    """The cases of this file, in a folder of their own."""
    cases = Kind(World(folder))
    try:
        yield cases
    finally:
        os.chdir(folder)
        cases.close()
