"""Random graphs on a live server: none ends in a raw error of ours, in its death, or changes what others draw."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from comfy_server import Graph

from tests.campaign.graph_maker import SIMPLE, Maker
from tests.campaign.live import Dead, Hung, Live, Outcome, home
from tests.campaign.records import Fault, Record, shorten

CASES = 25
TRIES = 60


class Kind:
    """Blocks of 25 graphs, and a golden picture after each."""

    def __init__(self, folder: Path) -> None:
        self.folder = home(folder)
        self.succeeded: Counter[str] = Counter()
        self._start()
        self.maker = Maker(self.server.get("/object_info"))
        self.golden = self.server.draw(golden())

    def _start(self) -> None:
        self.server = Live(self.folder)
        self.server.__enter__()

    def block(self, record: Record, seed: int, known: set[str]) -> None:
        """Adds to `record` what a block of graphs shows."""
        chance = Random(seed)
        for name in self.maker.ours:
            record.figures.setdefault(f"succeeded {name}", 0)
        for number in range(CASES):
            rare = min(self.maker.ours, key=lambda name: (self.succeeded[name], chance.random()))
            graph = self.maker.graph(chance, rare if number % 3 == 0 else None)
            record.cases += 1
            self._judge(record, graph, known)
        self._check_golden(record)
        shutil.rmtree(self.folder / "output", ignore_errors=True)
        (self.folder / "output").mkdir()

    def _judge(self, record: Record, graph: Graph, known: set[str]) -> None:
        try:
            outcome = self.server.outcome(graph)
        except (Dead, Hung) as error:
            self._restart()
            name = "dead" if isinstance(error, Dead) else "hung"
            count(record, name)
            self._note(record, Outcome("raw", name, str(error)[-300:]), graph, known)
            return
        count(record, outcome.status)
        if outcome.status == "success":
            for name in {node["class_type"] for node in graph.values()} & {*self.maker.ours}:
                count(record, f"succeeded {name}")
                self.succeeded[name] += 1
        if outcome.status == "raw":
            self._note(record, outcome, graph, known)

    def _note(self, record: Record, outcome: Outcome, graph: Graph, known: set[str]) -> None:
        record.bad += 1
        if outcome.place in known:
            return
        known.add(outcome.place)
        if outcome.node:
            graph = self._shrink(graph, outcome)
        record.faults.append(Fault(outcome.place, shorten(outcome.error), json.dumps(graph)))

    def _shrink(self, graph: Graph, outcome: Outcome) -> Graph:
        """The same error with fewer nodes, and more of them as simple as can be."""
        left = TRIES

        def fails(smaller: Graph) -> bool:
            nonlocal left
            left -= 1
            if left < 0:
                return False
            try:
                again = self.server.outcome(smaller)
            except (Dead, Hung):
                self._restart()
                return False
            return (again.status, again.place) == ("raw", outcome.place)

        return shrunk(graph, outcome.node, self.maker, fails)

    def _restart(self) -> None:
        self.server.stop()
        self._start()

    def _check_golden(self, record: Record) -> None:
        count(record, "golden")
        if self.server.draw(golden()) != self.golden:
            count(record, "changed")
            record.bad += 1
            record.faults.append(Fault("golden picture", "it changed", f"after block {record.block}"))


def shrunk(graph: Graph, node: str, maker: Maker, fails: Callable[[Graph], bool]) -> Graph:
    """`graph` with less in it, as long as `fails` says that it still shows the same error in `node`."""
    last = node
    if maker.info[graph[node]["class_type"]]["output"]:
        graph = {**graph, "show": {"class_type": "PreviewAny", "inputs": {"source": [node, 0]}}}
        last = "show"
    for trial in trials(needed(graph, last), maker):
        smaller = needed(trial, last)
        if len(json.dumps(smaller)) < len(json.dumps(graph)) and fails(smaller):
            return shrunk(smaller, node, maker, fails)
    return graph


def trials(graph: Graph, maker: Maker) -> Iterator[Graph]:
    """The same graph without one of the inputs that may be missing, or with the simplest node in place of another."""
    yield graph
    for number, entry in graph.items():
        for key, kind, _, required in maker.sockets(entry["class_type"]) if number != "show" else ():
            value = entry["inputs"].get(key)
            if value is not None and not required:
                trial = json.loads(json.dumps(graph))
                del trial[number]["inputs"][key]
                yield trial
            simple, index = SIMPLE.get(kind, ("", 0)) if isinstance(kind, str) else ("", 0)
            if isinstance(value, list) and simple and graph[value[0]]["class_type"] != simple:
                for other in [n for n in graph if graph[n]["class_type"] == simple]:
                    trial = json.loads(json.dumps(graph))
                    trial[number]["inputs"][key] = [other, index]
                    yield trial


def needed(graph: Graph, node: str) -> Graph:
    """`node` and all that it needs."""
    found, todo = set(), [node]
    while todo:
        number = todo.pop()
        if number not in found:
            found.add(number)
            todo += [v[0] for v in graph[number]["inputs"].values() if isinstance(v, list)]
    return {number: entry for number, entry in graph.items() if number in found}


def count(record: Record, name: str) -> None:
    """One more of something."""
    record.figures[name] = record.figures.get(name, 0) + 1


def golden(seed: int = 3) -> Graph:
    """Text to picture with the embedded model."""
    text = {"width": 0, "height": 0, "crop_top": 0, "crop_left": 0, "aesthetic_score": 6.0}
    run = {"steps": 3, "cfg": 3.0, "schedule": "auto", "denoise": 1.0, "temperature_start": 2.0, "temperature_end": 0.0}
    wires = {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 1], "latent_image": ["3", 0]}
    nodes = {
        "1": ("AmusedLoader", {"model": "embedded", "dtype": "auto", "text_encoder_dtype": "auto"}),
        "2": ("AmusedTextEncode", {"clip": ["1", 1], "positive": "a red apple", "negative": "", **text}),
        "3": ("AmusedEmptyLatent", {"model": ["1", 0], "width": 0, "height": 0, "batch_size": 1}),
        "4": ("AmusedSampler", {**wires, **run, "seed": seed, "seeding": "per_image"}),
        "5": ("AmusedVQDecode", {"samples": ["4", 0], "vae": ["1", 2], "tile_size": 0}),
        "6": ("PreviewImage", {"images": ["5", 0]}),
    }
    return {number: {"class_type": kind, "inputs": inputs} for number, (kind, inputs) in nodes.items()}


@contextlib.contextmanager
def kind(folder: Path) -> Iterator[Kind]:
    """The cases of this file, with a server of their own."""
    cases = Kind(folder)
    try:
        yield cases
    finally:
        cases.server.stop()
