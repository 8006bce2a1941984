"""A short campaign of each kind finds nothing; a longer one: `make campaign MINUTES=60 SEED=1`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.campaign.__main__ import NEEDS_COMFYUI, SHARES
from tests.campaign.explore import explore
from tests.campaign.graph_maker import Maker
from tests.campaign.graphs import shrunk
from tests.campaign.records import ROOT, Fault, Journal, Record
from tests.campaign.table import table

SEED = 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHARES)
def test_a_block_of_each_kind(kind: str, tmp_path: Path) -> None:
    if kind in NEEDS_COMFYUI and not os.environ.get("COMFYUI_DIR"):
        pytest.skip("COMFYUI_DIR is not set: no ComfyUI to test against")
    if os.name == "nt":
        pytest.skip("a campaign forks, and limits processes")
    journal = tmp_path / "journal.jsonl"
    command = [sys.executable, "-m", "tests.campaign", "--kinds", kind, "--minutes", "0", "--seed", str(SEED)]
    ended = subprocess.run([*command, "--journal", str(journal)], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0 and [record.bad for record in Journal(journal)] == [0], ended.stdout


def test_a_fault_is_found_counted_and_shrunk() -> None:
    record = Record("numbers", 0)

    def check(numbers: list[int]) -> None:
        if sum(numbers) > 100:
            raise RuntimeError("too many")

    known: set[str] = set()
    explore(record, st.lists(st.integers(0, 99)), check, 200, SEED, known, str)
    (fault,) = record.faults
    assert record.bad > 0 and sum(eval_numbers(fault.case)) == 101 and known == {fault.place}
    again = Record("numbers", 1)
    explore(again, st.lists(st.integers(0, 99)), check, 200, SEED, known, str)
    assert again.bad > 0 and not again.faults, "a place is told once"


def eval_numbers(text: str) -> list[int]:
    return [int(number) for number in text.strip("[]").split(",")]


def test_the_journal_is_read_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "journal.jsonl")
    records = [Record("calls", 0, 250, 1, [Fault("a.py:3", "KeyError: 1", "f(1)")]), Record("calls", 1, 250)]
    for record in records:
        journal.add(record)
    assert list(journal) == journal.of("calls") == records
    text = table(journal)
    assert "1 of 500" in text and "calls a.py:3: KeyError: 1\n    f(1)" in text


def node(*outputs: str, **inputs: Any) -> dict[str, Any]:
    return {"python_module": "nodes", "input": {"required": inputs}, "output": list(outputs)}


INFO = {
    "AmusedLoader": node("MODEL", "CLIP", "VAE"),
    "Patch": node("MODEL", model=["MODEL", {}], scale=["FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0}]),
    "AmusedSampler": node("LATENT", model=["MODEL", {}], steps=["INT", {"default": 12, "min": 1, "max": 1000}]),
    "Unfit": node("MODEL", other=["NOWHERE", {}]),
}


def test_graphs_fit_together() -> None:
    maker = Maker(INFO)
    assert maker.usable == ["AmusedLoader", "AmusedSampler", "Patch"] and maker.ours == [
        "AmusedLoader",
        "AmusedSampler",
    ]
    for seed in range(50):
        graph = maker.graph(Random(seed), "AmusedSampler")
        for entry in graph.values():
            for name, value in entry["inputs"].items():
                if isinstance(value, list) and name == "model":
                    assert INFO[graph[value[0]]["class_type"]]["output"][value[1]] == "MODEL"
        assert graph == maker.graph(Random(seed), "AmusedSampler")


def test_graphs_shrink_to_what_fails() -> None:
    wires = {"2": ["1", 0], "3": ["2", 0], "4": ["3", 0]}
    graph = {"1": {"class_type": "AmusedLoader", "inputs": {}}}
    graph |= {n: {"class_type": "Patch", "inputs": {"model": wire, "scale": 1.0}} for n, wire in wires.items()}
    graph["5"] = {"class_type": "AmusedSampler", "inputs": {"model": ["4", 0], "steps": 3}}

    def fails(smaller: dict[str, Any]) -> bool:
        return any(entry["class_type"] == "Patch" for entry in smaller.values())

    kinds = sorted(entry["class_type"] for entry in shrunk(graph, "5", Maker(INFO), fails).values())
    assert kinds == ["AmusedLoader", "AmusedSampler", "Patch", "PreviewAny"]
