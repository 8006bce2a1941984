"""How often a step makes the host wait for a graphics card; counted on any machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from amused_core import AmusedModel
from amused_core.pipelines.draws import RowDraws
from amused_core.sampling.loop import sample
from amused_core.sampling.randomness import PerImageDraws, seeded
from amused_core.sampling.schedule import Schedule
from tests.core.fakes import masked_only

# What has to know numbers that only the device has: values, or how large a result is.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "bincount", "_unique2"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
# These leave no trace on a CPU, where there is nothing to wait for.
READING = (Tensor.tolist, Tensor.cpu, Tensor.numpy)


class Reads(TorchFunctionMode):
    """Notes the calls of methods that read a tensor on the host."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READING:
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


class Waits(TorchDispatchMode):
    """Notes the operations that wait, while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._reads = Reads(self.seen)

    def __enter__(self) -> Waits:
        self._reads.__enter__()
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        self._reads.__exit__(*args)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in INDEXING and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        # `repeat_interleave` with a tensor of counts, too.
        if name in WAITING or masks or func is torch.ops.aten.repeat_interleave.Tensor:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def waits_of(run: Callable[..., Any]) -> list[list[str]]:
    """What waited in each step but the first; `run` takes an `on_step`."""
    steps: list[list[str]] = []
    with Waits() as waits:

        def on_step(step: Any) -> None:
            steps.append(waits.seen.copy())
            waits.seen.clear()

        run(on_step=on_step)
    assert len(steps) > 3
    return steps[1:]


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: bool((x > 0).any()),
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.index_put_((x > 0,), torch.tensor(0.0)),
        lambda x: torch.equal(x, x),
        lambda x: x.long().repeat_interleave(x.long()),
    ],
)
def test_waiting_is_seen(wait: Callable[[Tensor], Any]) -> None:
    with Waits() as waits:
        wait(torch.ones(1))
    assert waits.seen


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cfg": 1.0},
        {"cfg_interval": (0.2, 0.7), "cfg_schedule": "interval", "cfg_every": 2},
        {"sampling_temperature": 0.8, "top_k": 20, "top_p": 0.9},
        {"order": "hybrid", "revision": 0.3, "sampling_temperature_end": 0.8, "cfg_rescale": 0.5},
        {"image": True, "mask": True},
    ],
    ids=["plain", "no guidance", "spared guidance", "filters", "rules", "region"],
)
@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
@pytest.mark.parametrize("name", ["model", "model_512"])
def test_one_wait_a_step(
    request: pytest.FixtureRequest, picture: Tensor, name: str, seeding: str, settings: dict[str, Any]
) -> None:
    model: AmusedModel = request.getfixturevalue(name)
    if "mask" in settings:
        settings = {"image": picture, "mask": (torch.arange(32) < 20).expand(1, 32, 32).float()}

    def run(**more: Any) -> None:
        model.generate("a red cat", **{"cfg": 3.0, **settings}, steps=6, batch_size=2, seeding=seeding, **more)

    assert waits_of(run) == [["nonzero"]] * 5


@pytest.mark.parametrize("make", [PerImageDraws, RowDraws])
def test_one_wait_with_a_generator_for_each_picture(make: Callable[..., Any]) -> None:
    def run(**more: Any) -> None:
        model = masked_only(lambda tokens, index: torch.randn(2, 16, 8, 8, generator=seeded(index)))
        draws, schedule = make([seeded(1), seeded(2)]), Schedule.named("cosine", 6)
        settings = {"mask_token_id": 99, "temperature": (2.0, 0.0)}
        sample(torch.full((2, 8, 8), 99), model, schedule, draws, **settings, **more)

    assert waits_of(run) == [["nonzero"]] * 5
