"""Whose code a function or a class is: ours, ComfyUI's, or that of a node."""

from __future__ import annotations

from typing import Any

_OURS = __name__.partition(".nodes.")[0]


def module_of(thing: Any) -> str:
    """The module that defines a function or a class, or the class of an object."""
    return getattr(_named(thing), "__module__", None) or ""


def is_comfyui(thing: Any) -> bool:
    """Whether ComfyUI itself defines it; a function that a node has put in its place is the node's."""
    return module_of(thing).startswith("comfy.")


def node_of(thing: Any) -> str | None:
    """The node that made it: its class's name, as far as Python knows it; None for ours and ComfyUI's own."""
    if is_comfyui(thing) or module_of(thing).startswith(f"{_OURS}."):
        return None
    name = _named(thing).__qualname__.partition(".")[0]
    return name if name[:1].isupper() else module_of(thing).rpartition(".")[2].removeprefix("nodes_")


def _named(thing: Any) -> Any:
    return thing if hasattr(thing, "__qualname__") else type(thing)
