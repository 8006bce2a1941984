"""Resident memory of the process, from the operating system."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

_PERIOD = 0.02
_STATM, _STATUS = Path("/proc/self/statm"), Path("/proc/self/status")


def resident() -> int | None:
    """Bytes of the process that are in memory now; None where the system does not say (only Linux does)."""
    try:
        import resource

        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except (ImportError, OSError):
        return None


def high_water() -> int | None:
    """The most bytes that the process ever had in memory; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    for line in _STATUS.read_text().splitlines() if _STATUS.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class Peak:
    """Watches the resident memory from a thread of its own, every 20 ms.

    Attributes:
        before, peak: bytes when it began, and the most since; None where the system does not say.
    """

    def __enter__(self) -> Peak:
        self.before = self.peak = resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if self.before is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        if self.before is not None:
            self._thread.join()
            self._look()

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD):
            self._look()

    def _look(self) -> None:
        now = resident()
        if now is not None:
            self.peak = max(self.peak or 0, now)
