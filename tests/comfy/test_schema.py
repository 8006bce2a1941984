"""What the nodes declare: ids, help texts, defaults, and an order of widgets that may only grow."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from pathlib import Path

import node_schema
import pytest

from amused_core.settings import HELP

NODES = Path(__file__).resolve().parents[2] / "nodes"
# Saved workflows store widget values by position: the golden file has the order, and only grows.
WIDGETS = {
    name: [entry["name"] for entry in node["inputs"] if "default" in entry] for name, node in node_schema.read().items()
}


@pytest.fixture(scope="module")
def schemas(comfy):
    """Node id -> schema, as ComfyUI asks for it."""
    extension = asyncio.run(sys.modules[comfy.pack].comfy_entrypoint())
    return {schema.node_id: schema for schema in (n.define_schema() for n in asyncio.run(extension.get_node_list()))}


def test_ids(schemas):
    assert list(schemas) == [name for name in schemas if name.startswith("Amused")]
    assert set(schemas) == set(WIDGETS)


@pytest.mark.parametrize("name", WIDGETS)
def test_every_socket_is_explained(schemas, name):
    schema = schemas[name]
    assert schema.description and schema.display_name and schema.category.split("/")[0] == "aMUSEd"
    for socket in [*schema.inputs, *schema.outputs]:
        assert socket.tooltip and socket.tooltip.endswith("."), f"{name}: {socket.id} has no tooltip"


@pytest.mark.parametrize("name", WIDGETS)
def test_widgets_have_defaults_in_a_fixed_order(schemas, name):
    widgets = [socket for socket in schemas[name].inputs if hasattr(socket, "default")]
    assert [widget.id for widget in widgets] == WIDGETS[name]
    assert all(widget.default is not None for widget in widgets)


def test_defaults_lie_within_the_limits(schemas):
    for schema in schemas.values():
        for socket in schema.inputs:
            if getattr(socket, "min", None) is not None:
                assert socket.min <= socket.default <= socket.max, f"{schema.node_id}.{socket.id}"
            if getattr(socket, "options", None) is not None:
                assert socket.default in socket.options, f"{schema.node_id}.{socket.id}"


def test_int8_is_explained_as_in_the_command(schemas):
    (int8,) = [socket for socket in schemas["AmusedSpeed"].inputs if socket.id == "int8"]
    assert int8.tooltip == HELP["int8"]


def test_the_first_widget_of_a_pair_speaks_of_the_start_only(schemas):
    tips = [socket.tooltip for schema in schemas.values() for socket in schema.inputs if socket.id.endswith("_start")]
    assert len(tips) > 4 and not [tip for tip in tips if re.search(r"\b(last|end)\b", tip, re.IGNORECASE)]


def test_installers_can_find_the_nodes():
    """ComfyUI-Manager reads the source: direct base `io.ComfyNode`, literal `node_id`."""
    found = []
    for file in NODES.glob("*.py"):
        for cls in (node for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, ast.ClassDef)):
            if [ast.unparse(base) for base in cls.bases] != ["io.ComfyNode"]:
                continue
            calls = (node for node in ast.walk(cls) if isinstance(node, ast.Call))
            schema = next(call for call in calls if ast.unparse(call.func) == "io.Schema")
            found += [
                k.value.value for k in schema.keywords if k.arg == "node_id" and isinstance(k.value, ast.Constant)
            ]
    assert set(found) == set(WIDGETS)


def test_object_info_can_be_served(comfy):
    for name in WIDGETS:
        info = comfy.nodes.NODE_CLASS_MAPPINGS[name].GET_NODE_INFO_V1()
        assert len(info["output"]) == len(info["output_tooltips"])


def test_registration_can_be_repeated(comfy):
    from comfy.samplers import KSampler

    comfy.module("nodes.host").register()
    for names in (KSampler.SAMPLERS, KSampler.SCHEDULERS):
        assert names.count("amused") == 1
