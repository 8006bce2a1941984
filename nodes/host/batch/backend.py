"""What draws the pictures of a batch job in a graph, and what tells one graph's model from another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ....amused_core.batch.backend import Drawn
from ....amused_core.batch.model_backend import ModelBackend, digest
from ....amused_core.batch.pictures import Picture
from ....amused_core.lora.argument import split_lora
from .. import compat
from ..load.input_files import InputFiles
from .graph_model import GraphModel

pictures_to_read = InputFiles("picture", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# Nodes that MODEL, CLIP and VAE come from.
SOCKETS = ("model", "clip", "vae")
Graph = dict[str, dict[str, Any]]


class GraphBackend(ModelBackend):
    """Draws with a graph's model; rows name pictures of the input folder and LoRAs of ComfyUI's folders.

    Args:
        model: what draws.
        graph: the prompt in API format.
        node: the id of the node that draws.
    """

    model: GraphModel

    def __init__(self, model: GraphModel, graph: Graph | None, node: str | None) -> None:
        super().__init__(model)
        self._made_by = graph_digest(graph or {}, str(node))

    def identity(self) -> dict[str, Any]:
        """See `Backend`: also what other nodes have done to the model."""
        patchers = (self.model.model, self.model.clip.patcher, self.model.vae.patcher)
        weights = (item for patcher in patchers for item in _weights("", patcher.get_key_patches()))
        return {**self._common(), "weights": digest(weights), "graph": self._made_by}

    def free_memory(self) -> int:
        """See `ModelBackend`: as ComfyUI counts it."""
        return int(compat.free_memory(self.model.model, self.model.device))

    def locate(self, name: str) -> str:
        """The picture of that name in the input folder, and no file elsewhere."""
        return str(pictures_to_read.path(name))

    def load_lora(self, item: str) -> None:
        """Adds NAME[:STRENGTH]; a name is one that the LoRA loader lists."""
        self.model.load_lora(*split_lora(item))

    def draw(self, pictures: Sequence[Picture]) -> Drawn:
        """See `Backend`. ComfyUI moves models in and out of memory in one thread only, so this one decodes, too."""
        drawn = super().draw(pictures)
        images = drawn.images()
        return replace(drawn, images=lambda: images)


def graph_digest(graph: Graph, node: str) -> str:
    """Of the nodes and widgets that the node's MODEL, CLIP and VAE come from, whatever their ids are."""

    @cache
    def digest_of(source: str) -> str:
        entry = graph[source]
        inputs = {name: describe(value) for name, value in entry["inputs"].items()}
        text = json.dumps([entry["class_type"], inputs], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def describe(value: Any) -> Any:
        linked = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in graph
        return [digest_of(value[0]), value[1]] if linked else value

    inputs = graph.get(node, {}).get("inputs", {})
    return hashlib.sha256(json.dumps([describe(inputs.get(name)) for name in SOCKETS]).encode()).hexdigest()[:32]


def _weights(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors and numbers in a nest of weights and their patches, each with a name."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _weights(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _weights(f"{name}.{index}", item)
    elif hasattr(value, "weights"):
        yield from _weights(name, value.weights)
    elif isinstance(value, (int, float, str)):
        yield f"{name}={value}", torch.empty(0)
