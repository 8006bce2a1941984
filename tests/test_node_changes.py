"""The rules by which a change of a node counts as harmless or as breaking saved workflows."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import node_schema
import pytest
from describe_nodes import accept
from node_schema import Promises, changes, dump, promises

STEPS = {"name": "steps", "type": "INT", "optional": False, "default": 12, "min": 1, "max": 100}
MODE = {"name": "mode", "type": "COMBO", "optional": True, "default": "a", "options": ["a", "b"]}
MODEL = {"name": "model", "type": "MODEL", "optional": False}
OLD: Promises = {
    "AmusedA": {"inputs": [MODEL, STEPS, MODE], "outputs": [{"name": "MODEL", "type": "MODEL"}]},
    "AmusedB": {"inputs": [], "outputs": []},
}
NEW_WIDGET = {"name": "extra", "type": "INT", "optional": True, "default": 0}


def changed(edit: Callable[[Promises], Any]) -> Promises:
    """The old promises after `edit`."""
    new = copy.deepcopy(OLD)
    edit(new)
    return new


def put(index: int, **fields: Any) -> Callable[[Promises], Any]:
    """An edit of one input of AmusedA."""
    return lambda new: new["AmusedA"]["inputs"][index].update(fields)


def insert(place: int, entry: dict[str, Any]) -> Callable[[Promises], Any]:
    """A new input of AmusedA."""
    return lambda new: new["AmusedA"]["inputs"].insert(place, entry)


def test_nothing_changed() -> None:
    assert changes(OLD, copy.deepcopy(OLD)) == []


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda new: new.pop("AmusedB"), "AmusedB is gone"),
        (lambda new: new["AmusedA"]["inputs"].pop(1), "AmusedA: input 'steps' is gone"),
        (lambda new: new["AmusedA"]["inputs"].reverse(), "the inputs stand in another order: mode, steps, model"),
        (put(1, name="count"), "input 'steps' is gone"),
        (put(1, type="FLOAT"), "input 'steps': type was 'INT', is 'FLOAT'"),
        (put(1, min=2), "input 'steps': min was 1, is 2"),
        (put(1, max=50), "input 'steps': max was 100, is 50"),
        (put(1, control_after_generate=True), "control_after_generate was None, is True"),
        (put(2, optional=False), "input 'mode': optional was True, is False"),
        (put(2, default="b"), "input 'mode': default was 'a', is 'b'"),
        (put(2, options=["a", "c"]), "input 'mode': options gone: b"),
        (insert(1, NEW_WIDGET), "input 'extra' is new and stands before older ones"),
        (insert(3, {**NEW_WIDGET, "optional": False}), "input 'extra' is new and is required"),
        (insert(3, {"name": "extra", "type": "INT", "optional": True}), "input 'extra' is new and has no default"),
        (lambda new: new["AmusedA"]["outputs"].pop(), "output 0 (MODEL) is gone"),
        (lambda new: new["AmusedA"]["outputs"][0].update(type="CLIP"), "output 0 was MODEL, is CLIP"),
    ],
)
def test_what_breaks(edit: Callable[[Promises], Any], text: str) -> None:
    found = changes(OLD, changed(edit))
    assert any(change.breaking and text in change.text for change in found)
    assert str(found[0]).startswith("BREAKS WORKFLOWS: Amused")


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda new: new.update(AmusedC=OLD["AmusedB"]), "AmusedC is new"),
        (insert(3, NEW_WIDGET), "AmusedA: input 'extra' is new"),
        (insert(3, {"name": "vae", "type": "VAE", "optional": True}), "AmusedA: input 'vae' is new"),
        (put(1, default=10), "input 'steps': default was 12, is 10"),
        (put(1, min=0), "input 'steps': min was 1, is 0"),
        (put(1, max=None), "input 'steps': max was 100, is None"),
        (put(1, step=2), "input 'steps': step was None, is 2"),
        (put(1, optional=True), "input 'steps': optional was False, is True"),
        (put(2, options=["a", "b", "c"]), "input 'mode': options new: c"),
        (put(2, options=["b", "a"]), "input 'mode': options stand in another order: b, a"),
        (lambda new: new["AmusedA"]["outputs"].append({"name": "x", "type": "INT"}), "output 1 (x) is new"),
        (lambda new: new["AmusedA"]["outputs"][0].update(name="m"), "output 0 was called 'MODEL', is called 'm'"),
    ],
)
def test_what_is_harmless(edit: Callable[[Promises], Any], text: str) -> None:
    (found,) = changes(OLD, changed(edit))
    assert not found.breaking and text in found.text
    assert str(found).startswith("harmless: ")


def test_breaking_changes_come_first() -> None:
    new = changed(insert(3, NEW_WIDGET))
    new["AmusedA"]["inputs"][0]["type"] = "CLIP"
    assert [change.breaking for change in changes(OLD, new)] == [True, False]


def test_file_is_json_with_a_line_for_each_socket() -> None:
    text = dump(OLD)
    assert json.loads(text) == OLD
    assert sum('"name"' in line for line in text.splitlines()) == 4


def test_promises_of_both_kinds_of_nodes() -> None:
    """Combos of V1 nodes are lists; only our nodes are read; lists of files are left out."""
    node = {"input_order": {"required": ["model", "seed"]}, "output": ["MODEL"], "output_name": ["M"]}
    node["input"] = {
        "required": {
            "model": [["x.safetensors"], {"default": "x.safetensors"}],
            "seed": ["INT", {"default": 0, "min": None, "tooltip": "?", "control_after_generate": True}],
        }
    }
    seed = {"name": "seed", "type": "INT", "optional": False, "default": 0, "control_after_generate": True}
    model = {"name": "model", "type": "COMBO", "optional": False, "default": "x.safetensors"}
    output = {"name": "M", "type": "MODEL"}
    assert promises({"AmusedLoader": node, "KSampler": node}) == {
        "AmusedLoader": {"inputs": [model, seed], "outputs": [output]}
    }
    other = promises({"AmusedOther": node})["AmusedOther"]["inputs"][0]
    assert other == model | {"options": ["x.safetensors"]}


def test_command_refuses_what_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden file changes with harmless changes, and with others only on demand."""
    monkeypatch.setattr(node_schema, "GOLDEN", tmp_path / "golden" / "nodes.json")

    def info(**inputs: Any) -> dict[str, Any]:
        optional = {"input": {"optional": inputs}, "input_order": {"optional": list(inputs)}}
        return {"AmusedA": {**optional, "output": [], "output_name": []}}

    one, two = info(x=["INT", {"default": 1}]), info(x=["INT", {"default": 1}], y=["INT", {"default": 2}])
    for new, breaking, accepted in [(one, False, True), (two, False, True), (one, False, False), (one, True, True)]:
        before = node_schema.read() if node_schema.GOLDEN.exists() else None
        assert accept(new, breaking) is accepted
        assert node_schema.read() == (promises(new) if accepted else before)
