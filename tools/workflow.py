"""A workflow as data: nodes and their links, the rows and columns they stand in, the note beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Output(NamedTuple):
    """An output socket of a node."""

    node: str
    index: int


@dataclass
class Node:
    """A node; `inputs` are widget values and `Output`s of earlier nodes; `below`: under those, not beside them."""

    id: str
    class_type: str
    inputs: dict[str, Any]
    title: str | None
    below: bool = False

    def sources(self) -> set[str]:
        """Ids of the nodes that feed this one."""
        return {value.node for value in self.inputs.values() if isinstance(value, Output)}

    def __getitem__(self, index: int) -> Output:
        return Output(self.id, index)


@dataclass
class Workflow:
    """A graph, the note beside it, and frames around some of its nodes.

    Its thumbnail shows the `last` pictures of a run (None: all), at most `columns` to a row.
    """

    name: str
    note: str
    columns: int = 3
    last: int | None = None
    nodes: list[Node] = field(default_factory=list)
    frames: dict[str, list[str]] = field(default_factory=dict)
    breaks: list[tuple[int, bool]] = field(default_factory=lambda: [(0, False)])

    def add(self, class_type: str, title: str | None = None, below: bool = False, **inputs: Any) -> Node:
        """Adds a node and gives it the next id."""
        node = Node(str(len(self.nodes) + 1), class_type, inputs, title, below)
        self.nodes.append(node)
        return node

    def frame(self, title: str, *nodes: Node) -> None:
        """Draws a frame around nodes."""
        self.frames[title] = [node.id for node in nodes]

    def row(self, chains: bool = False) -> None:
        """Begins a new row below: with `chains`, a node stands under the one that feeds it instead of beside it."""
        self.breaks.append((len(self.nodes), chains))

    def rows(self) -> list[list[list[str]]]:
        """Ids by row and column."""
        ends = [first for first, _ in self.breaks[1:]] + [len(self.nodes)]
        rows = [(self.nodes[first:end], chains) for (first, chains), end in zip(self.breaks, ends, strict=True)]
        return [_chains(nodes) if chains else _columns(nodes) for nodes, chains in rows]

    def api(self) -> dict[str, dict[str, Any]]:
        """The graph in API format."""
        return {
            node.id: {
                "class_type": node.class_type,
                "inputs": {k: list(v) if isinstance(v, Output) else v for k, v in node.inputs.items()},
                **({"_meta": {"title": node.title}} if node.title else {}),
            }
            for node in self.nodes
        }


def _columns(nodes: list[Node]) -> list[list[str]]:
    """Links go from left to right, and a node stands as far right as what it feeds lets it."""
    place = {node.id: 0 for node in nodes}
    for node in nodes:
        place[node.id] = max((place[source] + (not node.below) for source in node.sources() & set(place)), default=0)
    for node in reversed(nodes):
        fed = [place[other.id] - (not other.below) for other in nodes if node.id in other.sources()]
        place[node.id] = min(fed) if fed else place[node.id]
    return [[i for i in place if place[i] == column] for column in range(max(place.values()) + 1)]


def _chains(nodes: list[Node]) -> list[list[str]]:
    """A column for each node that no other of `nodes` feeds; the others stand below the one that feeds them."""
    columns: list[list[str]] = []
    for node in nodes:
        above = next((column for column in columns if node.sources() & set(column)), None)
        if above is None:
            columns.append([node.id])
        else:
            above.append(node.id)
    return columns
