"""Processes that are killed at random: no file is broken, the next run ends as if nothing had been, and cleans up."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from tests.campaign.records import Fault, Record, shorten
from tests.campaign.tasks import TAKEN, Task, begin, broken, finish, leftovers, outcome, tasks
from tests.campaign.world import World

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Kind:
    """Blocks of one kill of each task."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said = world.folder / "said.txt"
        self.tasks = tasks(world)
        self.plain: dict[str, tuple[float, dict[str, Any]]] = {}
        for task in self.tasks:
            folder = self._folder()
            self._run(task, folder)  # Once to load what is loaded late.
            folder = self._folder()
            began = time.monotonic()
            code = self._run(task, folder)
            if code or broken(folder):
                raise RuntimeError(f"{task.name} does not work ({code}): {self.said.read_text()} {broken(folder)}")
            self.plain[task.name] = (time.monotonic() - began, outcome(folder))

    def block(self, record: Record, seed: int, known: set[str]) -> None:
        """Adds to `record` what a kill of each task shows."""
        chance = Random(seed)
        for task in self.tasks:
            for fault in self._kill(record, task, chance):
                record.bad += 1
                if fault.place not in known:
                    record.faults.append(fault)

    def _kill(self, record: Record, task: Task, chance: Random) -> Iterator[Fault]:
        folder, (seconds, plain) = self._folder(), self.plain[task.name]
        after, how = chance.uniform(0, seconds), chance.choice(SIGNALS)
        child = begin(task.line(folder), self.said)
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, how)
        code = finish(child)
        record.cases += 1
        record.figures["killed"] = record.figures.get("killed", 0) + (code != 0)
        case = f"{task.name}, {how.name} after {after:.3f} of {seconds:.3f} s"
        if found := broken(folder):
            yield Fault(f"{task.name}: broken file", shorten(found), case)
        code, said = self._run(task, folder), self.said.read_text(errors="replace")
        if code == 2 and TAKEN in said:  # It was there before the kill; another name is written.
            self._run(replace(task, target=f"other-{task.target}"), folder)
        elif code:
            yield Fault(f"{task.name}: the next run", f"it ended with {code}: {shorten(said[-1500:], 1500)}", case)
        elif differs := differing(plain, outcome(folder)):
            yield Fault(f"{task.name}: outcome", f"not as without a kill: {shorten(differs)}", case)
        if left := leftovers(folder):
            yield Fault(f"{task.name}: left over", shorten(left), case)

    def _run(self, task: Task, folder: Path) -> int:
        return finish(begin(task.line(folder), self.said))

    def _folder(self) -> Path:
        folder = self.world.scratch / "out"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of files that are not the same in both; an interrupted training leaves models of fewer steps, too."""
    names = one.keys() | {name for name in other if "/model-" not in name and not name.startswith("other-")}
    return sorted(name for name in names if one.get(name) != other.get(name))


@contextlib.contextmanager
def kind(folder: Path) -> Iterator[Kind]:
    """The cases of this file, in a folder of their own."""
    yield Kind(World(folder))
