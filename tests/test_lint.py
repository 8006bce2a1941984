"""The linter of API workflows: it finds each kind of fault, and nothing in a graph that is right."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from lint_workflows import lint


def entry(output: list[str], output_node: bool = False, **inputs: Any) -> dict[str, Any]:
    """A node as /object_info describes it; inputs that begin with "maybe_" are optional."""
    groups = {
        "required": {k: v for k, v in inputs.items() if not k.startswith("maybe_")},
        "optional": {k: v for k, v in inputs.items() if k.startswith("maybe_")},
    }
    order = {group: list(entries) for group, entries in groups.items()}
    return {"input": groups, "input_order": order, "output": output, "output_node": output_node}


INFO = {
    "Load": entry(["MODEL", "VAE"], name=(["a", "b"],), dtype=("COMBO", {"options": ["auto", "fp32"]})),
    "Sample": entry(
        ["LATENT"],
        model=("MODEL",),
        steps=("INT", {"min": 1, "max": 9}),
        cfg=("FLOAT", {"min": 0.0}),
        maybe_text=("STRING", {}),
        maybe_fast=("BOOLEAN", {}),
        maybe_extra=("*", {}),
    ),
    "Save": entry([], output_node=True, data=("LATENT,IMAGE", {})),
}
GRAPH = {
    "1": {"class_type": "Load", "inputs": {"name": "a", "dtype": "auto"}},
    "2": {"class_type": "Sample", "inputs": {"model": ["1", 0], "steps": 3, "cfg": 1, "maybe_extra": ["1", 1]}},
    "3": {"class_type": "Save", "inputs": {"data": ["2", 0]}, "_meta": {"title": "The end"}},
}


def test_a_right_graph() -> None:
    assert lint(GRAPH, INFO) == []


@pytest.mark.parametrize(
    ("node", "name", "value", "fault"),
    [
        ("1", "name", "c", "node 1 (Load): input 'name' is 'c'; allowed are a, b"),
        ("1", "dtype", "fp64", "node 1 (Load): input 'dtype' is 'fp64'; allowed are auto, fp32"),
        ("2", "sampler", 1, "node 2 (Sample): unknown input 'sampler'; it has model, steps, cfg, "),
        ("2", "steps", 0, "node 2 (Sample): input 'steps' is 0; allowed are 1 to 9"),
        ("2", "steps", 10, "node 2 (Sample): input 'steps' is 10; allowed are 1 to 9"),
        ("2", "steps", 2.5, "node 2 (Sample): input 'steps' is 2.5, which is no INT"),
        ("2", "steps", "3", "node 2 (Sample): input 'steps' is '3', which is no INT"),
        ("2", "steps", True, "node 2 (Sample): input 'steps' is True, which is no INT"),
        ("2", "cfg", -0.5, "node 2 (Sample): input 'cfg' is -0.5; allowed are 0.0 to inf"),
        ("2", "maybe_text", 1, "node 2 (Sample): input 'maybe_text' is 1, which is no STRING"),
        ("2", "maybe_fast", 1, "node 2 (Sample): input 'maybe_fast' is 1, which is no BOOLEAN"),
        ("2", "model", "a", "node 2 (Sample): input 'model' is 'a'; it wants a link of type MODEL"),
        ("2", "model", ["1", 1], "node 2 (Sample): input 'model' wants MODEL, but output 1 of node 1 is VAE"),
        ("2", "model", ["1", 2], "node 2 (Sample): input 'model' is linked to output 2 of node 1, which has 2"),
        ("2", "model", ["9", 0], "node 2 (Sample): input 'model' is linked to node 9, which is not there"),
        ("2", "model", ["1"], "node 2 (Sample): input 'model' is ['1']; a link is"),
        ("2", "model", [1, 0], "node 2 (Sample): input 'model' is [1, 0]; a link is"),
        ("3", "data", ["1", 0], "node 3 (Save): input 'data' wants LATENT,IMAGE, but output 0 of node 1 is MODEL"),
    ],
)
def test_one_wrong_input(node: str, name: str, value: Any, fault: str) -> None:
    graph = copy.deepcopy(GRAPH)
    graph[node]["inputs"][name] = value
    (found,) = lint(graph, INFO)
    assert found.startswith(fault)


@pytest.mark.parametrize(("node", "name"), [("1", "name"), ("2", "model"), ("2", "steps")])
def test_a_missing_input(node: str, name: str) -> None:
    graph = copy.deepcopy(GRAPH)
    del graph[node]["inputs"][name]
    assert lint(graph, INFO) == [f"node {node} ({graph[node]['class_type']}): input {name!r} is missing"]


def test_an_unknown_node() -> None:
    graph = copy.deepcopy(GRAPH)
    graph["2"]["class_type"] = "Sampel"
    assert lint(graph, INFO) == ["node 2 (Sampel): unknown node"]


def test_nothing_to_save() -> None:
    assert lint({"1": GRAPH["1"]}, INFO) == ["no node saves or shows anything"]


def test_every_fault_is_told() -> None:
    graph = copy.deepcopy(GRAPH)
    graph["1"]["inputs"]["name"] = "c"
    graph["2"]["inputs"] |= {"steps": 0, "cfg": -1}
    assert len(lint(graph, INFO)) == 3
