"""Random graphs of the nodes of this pack and the stock nodes that fit by type."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from comfy_server import Graph

Info = dict[str, dict[str, Any]]
# What the first node of a type is where nothing else is wanted; each has outputs of its own.
SIMPLE = {
    "MODEL": ("AmusedLoader", 0), "CLIP": ("AmusedLoader", 1), "VAE": ("AmusedLoader", 2),
    "CONDITIONING": ("AmusedTextEncode", 0), "LATENT": ("AmusedEmptyLatent", 0), "IMAGE": ("EmptyImage", 0),
    "MASK": ("SolidMask", 0), "SAMPLER": ("AmusedSamplerSelect", 0), "SIGMAS": ("AmusedScheduler", 0),
    "NOISE": ("RandomNoise", 0), "GUIDER": ("BasicGuider", 0), "AMUSED_TRACE": ("AmusedTrace", 1),
}  # fmt: skip
OTHERS = {"HOOKS", "HOOK_KEYFRAMES", "LATENT_OPERATION", "TIMESTEPS_RANGE", "LORA_MODEL"}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
# Stock nodes that use the network, other media, or minutes.
LEFT_OUT = ("api_nodes", "dataset", "nodes_train", "torch_compile", "video", "audio", "3d", "webcam", "textgen",
            "wan", "multigpu", "websocket", "hunyuan", "minimax", "trellis", "splat", "sam3", "mesh", "glsl",
            "nodes_ace")  # fmt: skip
SLOW = {"FluxKontextImageScale", "ImageScaleToTotalPixels", "ImageQuantize"}  # Megapixels, or minutes.
ENDS = {"AmusedTrainLora"}  # Half a minute: nothing goes on from it.
SIDES = (0, 1, 7, 8, 16, 32, 33, 64, 128, 256)
TEXTS = (
    "a red apple",
    "",
    "(a:1.2) cat",
    "word " * 60,
    "a\0b",
    "é猫",
    "../x",
    "embedding:nothing",
    "a/b",
    "%date%",
    "{",
)
SIZED = ("width", "height", "size", "resolution", "length", "tile", "side", "pixels", "left", "right", "top", "bottom")
COUNTED = ("batch", "amount", "count", "steps", "repeat", "frames", "multiplier", "rank", "dimension", "_at_step")


class Maker:
    """Makes graphs for a server's nodes."""

    def __init__(self, info: Info) -> None:
        self.info = {
            name: node
            for name, node in info.items()
            if name not in SLOW and not any(word in node["python_module"] for word in LEFT_OUT)
        }
        self.makers: dict[str, list[tuple[str, int]]] = {}
        fits, before = set(), -1
        while len(fits) != before:
            before = len(fits)
            for name in sorted(self.info.keys() - fits):
                if all(self._can_have(kind, options) for _, kind, options, _ in self.sockets(name, optional=False)):
                    fits.add(name)
                    for index, kind in enumerate(self.info[name]["output"] if name not in ENDS else ()):
                        if isinstance(kind, str) and kind in {*SIMPLE, *OTHERS, *WIDGETS}:
                            self.makers.setdefault(kind, []).append((name, index))
        self.usable = sorted(fits)
        self.ours = [name for name in self.usable if name.startswith("Amused")]

    def sockets(self, name: str, optional: bool = True) -> Iterator[tuple[str, Any, dict[str, Any], bool]]:
        """Name, type, options and whether it must be there, of a node's inputs."""
        for part in ("required", "optional") if optional else ("required",):
            for key, (kind, *options) in self.info[name]["input"].get(part, {}).items():
                more = dict(options[0]) if options else {}
                if isinstance(kind, list):
                    more["options"], kind = kind, "COMBO"
                yield key, kind, more, part == "required"

    def _can_have(self, kind: str, options: dict[str, Any]) -> bool:
        return kind in self.makers or (kind in WIDGETS and (kind != "COMBO" or bool(options.get("options"))))

    def graph(self, chance: Random, aim: str | None = None) -> Graph:
        """A graph that ends in `aim`, or in any node; the wilder one is, the fewer of its values are defaults."""
        wild = 0.05 if aim else chance.choice([0.05, 0.2, 0.4])
        graph: Graph = {}
        name = aim or chance.choice(chance.choice([self.ours, self.usable]))
        node = self._add(graph, chance, name, chance.randint(0, 1) if aim else chance.randint(1, 4), wild)
        self._show(graph, chance, node)
        return graph

    def _add(self, graph: Graph, chance: Random, name: str, depth: int, wild: float) -> str:
        inputs: dict[str, Any] = {}
        for key, kind, options, required in self.sockets(name):
            if not required and (chance.random() > wild or not self._can_have(kind, options)):
                continue
            if kind in WIDGETS and (kind not in self.makers or chance.random() > 0.03):
                inputs[key] = widget(chance, key, kind, options, wild)
            else:
                inputs[key] = self._source(graph, chance, kind, depth, wild)
        number = str(len(graph) + 1)
        graph[number] = {"class_type": name, "inputs": inputs}
        return number

    def _source(self, graph: Graph, chance: Random, kind: str, depth: int, wild: float) -> list[Any]:
        there = [
            [number, index]
            for number, node in graph.items()
            for index, output in enumerate(self.info[node["class_type"]]["output"])
            if output == kind
        ]
        if there and (depth <= 0 or chance.random() < 0.6):
            return chance.choice(there)
        makers = self.makers[kind]
        if depth <= 0 or len(graph) > 25:
            name, index = SIMPLE.get(kind, makers[0])
        else:
            ours = [maker for maker in makers if maker[0].startswith("Amused")]
            name, index = chance.choice(ours if ours and chance.random() < 0.4 else makers)
        return [self._add(graph, chance, name, depth - 1, wild), index]

    def _show(self, graph: Graph, chance: Random, node: str) -> None:
        """Output nodes for what nothing else takes."""
        taken = {tuple(v) for n in graph.values() for v in n["inputs"].values() if isinstance(v, list)}
        for number in list(graph):
            outputs = self.info[graph[number]["class_type"]]["output"]
            for index, kind in enumerate(outputs):
                if (number, index) not in taken and (number == node or not any((number, i) in taken for i in range(9))):
                    how, key = ("PreviewImage", "images") if kind == "IMAGE" else ("PreviewAny", "source")
                    graph[str(len(graph) + 1)] = {"class_type": how, "inputs": {key: [number, index]}}


def widget(chance: Random, key: str, kind: str, options: dict[str, Any], wild: float) -> Any:
    """A value that the widget allows, and that does not take minutes."""
    default = options.get("default")
    if kind == "COMBO":
        # The file that nodes begin with is none; those of the input folder are whole, odd and damaged.
        keep = default is not None and chance.random() > (0.5 if key == "file" else wild)
        return default if keep else chance.choice(options["options"])
    if kind == "BOOLEAN":
        return chance.random() < 0.5
    if kind == "STRING":
        return chance.choice(TEXTS) if chance.random() < max(2 * wild, 0.15) else default or TEXTS[0]
    low, high = options.get("min", 0), options.get("max", 100)
    name = key.lower()
    if any(word in name for word in COUNTED):
        return max(low, min(high, chance.randint(1, 4)))
    if any(word in name for word in SIZED):
        small = [side for side in SIDES if low <= side <= high] or [low]
        return chance.choice(small) if chance.random() < wild else max(low, min(high, 32))
    if default is not None and chance.random() > wild:
        return default
    low, high = max(low, -(10**6)), min(high, 2**64 - 1 if "seed" in name else 10**6)
    value = chance.choice([low, high, chance.uniform(low, min(high, low + 10)), chance.uniform(low, high)])
    value = min(value, 4) if "scale" in name and "guid" not in name else value
    return int(value) if kind == "INT" else value
