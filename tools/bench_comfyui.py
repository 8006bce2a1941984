"""Measures what a sampling step costs inside ComfyUI beyond the same step without it.

For plain prompts the nodes let the core ask the model. With anything else ComfyUI does: every token is a one-hot vector
over the codes then, and logits of every cell come back. `--stock` measures that way, with a node that changes nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any
from unittest import mock

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import amused_core.model.facade  # noqa: E402
from amused_core.bench import machine, report  # noqa: E402
from amused_core.bench.laps import Laps  # noqa: E402
from amused_core.bench.weights import RandomSource  # noqa: E402
from amused_core.checkpoint import Checkpoint  # noqa: E402
from amused_core.checkpoint.single_file import write_checkpoint  # noqa: E402
from amused_core.files import markdown  # noqa: E402

NAME, PROMPT = "measured", "a red apple on a blue background, take {}"
PREDICT, SAMPLER = "U-ViT and guidance", "sampler"


def main() -> None:
    """Command line: the ComfyUI folder, and what to run."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("comfyui", type=Path, help="the ComfyUI folder")
    add("--model", type=Path, help="a folder in diffusers' layout or a .safetensors file (default: the embedded model)")
    add("--shape", choices=("256", "512"), help="random weights in the sizes of amused-256 or -512 (3.5 GB on disk)")
    add("--steps", type=int, default=12)
    add("--batch", type=int, default=1)
    add("--cfg", type=float, default=3.0)
    add("--repeats", type=int, default=5)
    add("--threads", type=int)
    add("--stock", action="store_true", help="take ComfyUI's own way, as for regions, masks and hooks")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error("--steps must be at least 2: the first one is not counted")
    if arguments.model and arguments.shape:
        parser.error("--model and --shape cannot both be given")
    os.environ["COMFYUI_DIR"] = str(arguments.comfyui.resolve())
    from tests.comfy.harness import Comfy

    with tempfile.TemporaryDirectory() as folder, machine.threads(arguments.threads):
        models = Path(folder)
        path = place(models / "amused", arguments)
        headless = Headless(path, arguments)
        sides = {"without ComfyUI": headless, "in ComfyUI": InComfy(Comfy(models), path, headless, arguments)}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        equal = 0.0
        for take in range(arguments.repeats + 1):  # The first of each is not counted.
            tokens = []
            for name, side in sides.items():
                laps = Laps()
                tokens.append(side.draw(PROMPT.format(take), take, laps))
                runs[name].append(milliseconds(laps, arguments.steps))
            equal += float((tokens[0] == tokens[1]).double().mean()) / (arguments.repeats + 1)
        about = report.machine({**machine.describe(), "load_after": machine.load()})
    print(
        f"{about}\n\n{table({name: found[1:] for name, found in runs.items()})}\n\nTokens equal: {100 * equal:.4g} %."
    )


def place(folder: Path, arguments: argparse.Namespace) -> Path | None:
    """Puts the model where ComfyUI's loader finds it under `NAME`; None is the embedded one."""
    folder.mkdir(parents=True)
    if arguments.shape:
        path = folder / f"{NAME}.safetensors"
        write_checkpoint(path, Checkpoint(Path(NAME), RandomSource(arguments.shape, 0)), None)
        return path
    if arguments.model is None:
        return None
    path = folder / (f"{NAME}.safetensors" if arguments.model.is_file() else NAME)
    path.symlink_to(arguments.model.resolve())
    return path


class Headless:
    """The core alone."""

    def __init__(self, path: Path | None, arguments: argparse.Namespace) -> None:
        self.model = amused_core.model.facade.load_model(path, device="cpu")
        self.arguments = arguments

    def draw(self, prompt: str, seed: int, laps: Laps) -> torch.Tensor:
        """Tokens of one run, its steps timed."""
        given = self.arguments
        settings = {"steps": given.steps, "cfg": given.cfg, "batch_size": given.batch, "seed": seed}
        with sampling(amused_core.model.facade, laps):
            return self.model.generate(prompt, **settings).tokens


class InComfy:
    """The pack's nodes in a ComfyUI in this process."""

    def __init__(self, comfy: Any, path: Path | None, headless: Headless, arguments: argparse.Namespace) -> None:
        from tests.comfy import graphs

        self.comfy, self.graphs, self.arguments = comfy, graphs, arguments
        self.best = headless.model.checkpoint.recommended
        self.loader = graphs.load(comfy, "embedded" if path is None else path.name)

    def draw(self, prompt: str, seed: int, laps: Laps) -> torch.Tensor:
        """Tokens of one run, its steps timed."""
        comfy, graphs, given = self.comfy, self.graphs, self.arguments
        start = graphs.empty(comfy, self.loader, self.best.width, self.best.height, given.batch)
        text = graphs.prompts(comfy, self.loader, prompt)
        temperature = dict(zip(("temperature_start", "temperature_end"), self.best.temperature, strict=True))
        wanted = {"seed": seed, "steps": given.steps, "cfg": given.cfg, **temperature}
        if given.stock:
            model = comfy.run(self.loader).clone()
            model.set_model_unet_function_wrapper(lambda ask, args: ask(args["input"], args["timestep"], **args["c"]))
            wanted["model"] = comfy.give(model)
        with sampling(comfy.module("amused_core.sampling.loop"), laps):
            return graphs.tokens(comfy.run(graphs.sample(comfy, self.loader, start, text, **wanted)))


@contextmanager
def sampling(module: ModuleType, laps: Laps) -> Iterator[None]:
    """While it lasts, the loop that `module.sample` is has the two parts of its steps timed."""
    original: Callable[..., Any] = module.sample

    def sample(tokens: Any, predict: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        laps.lap("set up")

        def timed(*args: Any, **kwargs: Any) -> Any:
            laps.lap(SAMPLER)
            result = predict(*args, **kwargs)
            laps.lap(PREDICT)
            return result

        result = original(tokens, timed, *args, **kwargs)
        laps.lap(SAMPLER)
        return result

    with mock.patch.object(module, "sample", sample):
        yield


def milliseconds(laps: Laps, steps: int) -> dict[str, float]:
    """CPU milliseconds of each part of a step, the mean of all steps but the first, which the core may keep."""
    # The loop's own part has one more lap, before the first step.
    counted = {PREDICT: laps.costs[PREDICT][1:], SAMPLER: laps.costs[SAMPLER][2:]}
    found = {part: 1000 * sum(cost[0] for cost in costs) / (steps - 1) for part, costs in counted.items()}
    return {**found, "step": sum(found.values())}


def table(runs: dict[str, list[dict[str, float]]]) -> str:
    """Medians of the runs, what ComfyUI adds, and which share of its step that is."""
    found = {name: {part: median(run[part] for run in side) for part in side[0]} for name, side in runs.items()}
    alone, inside = found.values()
    rows = [
        {"CPU ms a step": name, **{part: f"{value:.2f}" for part, value in row.items()}} for name, row in found.items()
    ]
    added = inside["step"] - alone["step"]
    share = 100 * added / inside["step"]
    return f"{markdown.table(rows)}\n\nIn ComfyUI a step takes {added:+.2f} ms ({share:+.1f} % of it)."


if __name__ == "__main__":
    main()
