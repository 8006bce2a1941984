"""Two servers in one folder: no file is lost, overwritten or broken, and neither server ends.

Both save tokens, images and models under the same prefixes at the same time, and each loads what the other saves.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from comfy_server import Graph

from tests.campaign.graphs import golden
from tests.campaign.live import Dead, Hung, Live, home
from tests.campaign.records import Fault, Record, shorten
from tests.campaign.tasks import broken, leftovers

CASES = 10
ENDINGS = {"tokens": ".npy", "one file": ".safetensors", "diffusers folder": "model_index.json"}


class Kind:
    """Blocks of graphs that both servers run at the same time."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = home(folder)
        self.servers = [stack.enter_context(Live(self.folder)) for _ in range(2)]

    def block(self, record: Record, seed: int, known: set[str]) -> None:
        """Adds to `record` what a block shows."""
        chance = Random(seed)
        shutil.rmtree(self.folder / "output", ignore_errors=True)
        saves = [chance.choice([*ENDINGS]) for _ in range(CASES)]
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(self._run, server, saves, Random(seed)) for server in self.servers]
            faults = [fault for job in jobs for fault in job.result()]
        record.cases += 2 * CASES
        for kind, ending in ENDINGS.items():
            files = len(list((self.folder / "output").rglob(f"*{ending}")))
            # A folder holds the weights of three parts.
            wanted = 2 * (saves.count(kind) + 3 * (kind == "one file") * saves.count("diffusers folder"))
            if files != wanted:
                faults.append(Fault(f"{kind}: files", f"{files} instead of {wanted}", str(saves)))
        if found := broken(self.folder / "output"):
            faults.append(Fault("broken file", shorten(found), str(saves)))
        if left := leftovers(self.folder / "output"):
            faults.append(Fault("left over", shorten(left), str(saves)))
        record.bad += len(faults)
        record.faults += [fault for fault in faults if fault.place not in known]

    def _run(self, server: Live, saves: list[str], chance: Random) -> list[Fault]:
        faults = []
        for number, kind in enumerate(saves):
            try:
                # ComfyUI leaves out a node whose inputs are those of the prompt before.
                outcome = server.outcome(graph(kind, chance, ("fp32", "fp16")[number % 2]))
            except (Dead, Hung) as error:
                return [*faults, Fault("server", shorten(error, 1500), kind)]
            if outcome.status != "success":
                faults.append(Fault(f"{kind}: {outcome.place}", outcome.error, kind))
        return faults


def graph(kind: str, chance: Random, dtype: str) -> Graph:
    """Draws an image and saves what it was made of, or with."""
    nodes = golden(chance.randint(0, 2**32))
    nodes["1"]["inputs"]["model"] = chance.choice(["tiny", "embedded"])
    if kind == "tokens":
        nodes["7"] = {"class_type": "AmusedSaveTokens", "inputs": {"samples": ["4", 0], "filename_prefix": "both/t"}}
    else:
        parts = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "layout": kind, "dtype": dtype}
        nodes["7"] = {"class_type": "AmusedSaveModel", "inputs": {**parts, "filename_prefix": "both/m"}}
    return nodes


@contextlib.contextmanager
def kind(folder: Path) -> Iterator[Kind]:
    """The cases of this file, with two servers of their own."""
    with contextlib.ExitStack() as stack:
        yield Kind(folder, stack)
