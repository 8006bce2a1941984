"""Where the time of a run goes: a clock that is read whenever one part ends and the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Cost = tuple[float, ...]
PARTS = ("text", "prepare", "first step", "step", "sampler", "decode", "rest")


def cpu_and_wall() -> Cost:
    """Seconds of all threads of the process, and of the clock on the wall."""
    return time.process_time(), time.perf_counter()


class Laps:
    """The cost of each part of a run: from one lap to the next, so nothing is left out.

    Attributes:
        costs: part -> the cost of each of its laps, in the units of `read`.
    """

    def __init__(self, read: Callable[[], Cost] = cpu_and_wall) -> None:
        self.costs: dict[str, list[Cost]] = {}
        self._read = read
        self._last = read()

    def lap(self, part: str | None) -> None:
        """Charges the time since the last lap to `part`; None leaves it to the next lap."""
        if part is None:
            return
        now = self._read()
        self.costs.setdefault(part, []).append(tuple(b - a for a, b in zip(self._last, now, strict=True)))
        self._last = now

    @contextmanager
    def around(self, owner: Any, name: str, before: str | None = None, after: str | None = None) -> Iterator[None]:
        """While it lasts, calls of `owner.name` end the lap `before` when they begin and `after` when they return."""
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.lap(before)
            result = method(*args, **kwargs)
            self.lap(after)
            return result

        with instead(owner, name, timed):
            yield


@contextmanager
def instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    """While it lasts, the method `owner.name` is `value`, for this object alone."""
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)


def parts(costs: dict[str, list[Cost]]) -> dict[str, Cost]:
    """The parts of a picture: "step" is the mean of all U-ViT steps but the first, "sampler" the mean over steps.

    A run of one step has no "step".
    """
    steps = costs["step"]
    nothing = tuple(0.0 for _ in steps[0])
    means = {name: _sum(costs.get(name, [nothing])) for name in ("text", "prepare", "decode", "rest")}
    means["first step"] = steps[0]
    if len(steps) > 1:
        means["step"] = _times(_sum(steps[1:]), 1 / (len(steps) - 1))
    means["sampler"] = _times(_sum(costs.get("sampler", [nothing])), 1 / len(steps))
    return {name: means[name] for name in PARTS if name in means}


def compose(means: dict[str, Cost], steps: int) -> Cost:
    """A picture of `steps` steps from its parts; for as many steps as were run it is what that run took."""
    counts = {"step": steps - 1, "sampler": steps}
    return _sum([_times(cost, counts.get(name, 1)) for name, cost in means.items()])


def _sum(values: Sequence[Cost]) -> Cost:
    return tuple(map(sum, zip(*values, strict=True)))


def _times(value: Cost, factor: float) -> Cost:
    return tuple(number * factor for number in value)
