"""What versions are made of and what is made of them: nodes, edges, and the part of the graph around one node."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.common.errors import MeshError, invalid
from services.common.names import check_model_name, check_version

KINDS = ("version", "run", "dataset", "commit", "person")
DIRECTIONS = ("ancestors", "descendants", "both")
DEPTH_DEFAULT = 10
DEPTH_MAX = 100
NODES_MAX = 1000
NODES_ASKED_MAX = 16
_NAME_LENGTH_MAX = 2048


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """Something that versions are made of, or a version."""

    kind: str
    name: str

    @property
    def node_id(self) -> str:
        """Kind and name."""
        return f"{self.kind}:{self.name}"

    @property
    def key(self) -> bytes:
        """Under which the graph is stored: node ids may be too long to be looked up by."""
        return hashlib.sha256(self.node_id.encode()).digest()


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """That `made` was made from `source`. `relation` is that of the contract."""

    source: Node
    made: Node
    relation: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes, the one asked for first and then by distance, and all edges between them."""

    nodes: Sequence[Node]
    edges: Sequence[Edge]
    truncated: bool = False


@dataclass
class Growth:
    """A graph that grows from `start` into one direction, step by step, never larger than `nodes_max`."""

    start: Node
    upwards: bool
    nodes_max: int = NODES_MAX
    distances: dict[Node, int] = field(default_factory=dict)
    frontier: Sequence[Node] = ()
    truncated: bool = False

    def __post_init__(self) -> None:
        self.distances[self.start] = 0
        self.frontier = [self.start]

    def take(self, edges: Iterable[Edge]) -> None:
        """Goes one step: `edges` are all that lead on from the frontier. Nodes that are known already end there, so
        circles do."""
        distance = max(self.distances.values()) + 1
        ends = sorted({edge.source if self.upwards else edge.made for edge in edges} - self.distances.keys())
        room = self.nodes_max - len(self.distances)
        self.truncated = self.truncated or len(ends) > room
        self.frontier = ends[:room]
        self.distances.update(dict.fromkeys(self.frontier, distance))


def merged(growths: Sequence[Growth]) -> tuple[Sequence[Node], bool]:
    """The nodes of both directions, the nearest first, and whether some were left out."""
    distances: dict[Node, int] = {}
    for growth in growths:
        for node, distance in growth.distances.items():
            distances[node] = min(distance, distances.get(node, distance))
    ordered = sorted(distances, key=lambda node: (distances[node], node))
    return ordered[:NODES_MAX], len(ordered) > NODES_MAX or any(growth.truncated for growth in growths)


def parse_node(text: str, named: str) -> Node:
    """Reads "dataset:interactions_2026_jan". Raises INVALID_FIELD."""
    allowed = 'kind:name, for instance "dataset:interactions_2026_jan"; kinds are ' + ", ".join(KINDS)
    kind, colon, name = text.partition(":")
    if not colon or kind not in KINDS or not name or len(name) > _NAME_LENGTH_MAX or "\0" in name:
        raise invalid(named, text, allowed)
    if kind != "version":
        return Node(kind, name)
    model, at, number = name.rpartition("@")
    try:
        return version_node(check_model_name(model, named), check_version(number, named)) if at else _refuse()
    except (MeshError, ValueError):
        raise invalid(named, text, '"version:<model>@<version>", for instance "version:digits@v1.0.0"') from None


def version_node(model_name: str, version: str) -> Node:
    """The node of a version."""
    return Node("version", f"{model_name}@{version}")


def parse_nodes(texts: Sequence[str]) -> tuple[Node, ...]:
    """The nodes that a search asks for. Raises INVALID_FIELD naming the one that cannot be read."""
    if len(texts) > NODES_ASKED_MAX:
        raise invalid("lineage", f"{len(texts)} nodes", f"at most {NODES_ASKED_MAX}")
    return tuple(parse_node(text, f"lineage[{number}]") for number, text in enumerate(texts))


def check_direction(text: str) -> str:
    """The direction, "both" for none. Raises INVALID_FIELD."""
    if text and text not in DIRECTIONS:
        raise invalid("direction", text, "empty or one of " + ", ".join(DIRECTIONS))
    return text or "both"


def check_depth(depth_max: int) -> int:
    """The steps to go, 10 for 0. Raises INVALID_FIELD."""
    if not 0 <= depth_max <= DEPTH_MAX:
        raise invalid("depth_max", depth_max, f"0 to {DEPTH_MAX}; 0 means {DEPTH_DEFAULT}")
    return depth_max or DEPTH_DEFAULT


def _refuse() -> Node:
    raise ValueError("no @")
