"""Changes and lineage as people see them."""

from collections.abc import Mapping, Sequence

from google.protobuf.json_format import MessageToDict
from infermesh.client.cli.output import table, when
from infermesh.registry.v1 import change_pb2, registry_service_pb2
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.tree import Tree

_FIELDS_SHOWN_MAX = 3
_VALUE_LENGTH_MAX = 40
_WORDS = {"parent": "", "trained_by_run": "run", "trained_on": "data set", "built_from": "commit", "trained_by": "by"}


def changes_listed(changes: Sequence[change_pb2.Change]) -> RenderableType:
    """A table of changes."""
    if not changes:
        return "[dim]no changes[/]"
    shown = table("when", "what", "action", "who", "team", "changed", "why", whole=["what"])
    for change in changes:
        shown.add_row(
            when(change.time),
            escape(change.resource_name),
            escape(change.action),
            escape(change.actor),
            escape(change.team),
            escape(difference(change)),
            escape(change.reason),
        )
    return shown


def change_line(change: change_pb2.Change) -> str:
    """A change on one line, with the cursor to go on behind it."""
    by = f" by {escape(change.actor)}" if change.actor else ""
    why = f" [dim]({escape(change.reason)})[/]" if change.reason else ""
    said = escape(difference(change))
    what = f"{escape(change.resource_type)} [bold]{escape(change.resource_name)}[/]"
    return f"{when(change.time)}  {what} {escape(change.action)}{by}  {said}{why}  [dim]#{escape(change.cursor)}[/]"


def difference(change: change_pb2.Change) -> str:
    """The fields that differ, a few of them, where both sides are known."""
    if not change.HasField("before") or not change.HasField("after"):
        return ""
    before, after = MessageToDict(change.before), MessageToDict(change.after)
    names = [name for name in sorted({*before, *after} - {"etag", "updated_at"}) if before.get(name) != after.get(name)]
    shown = [f"{name} {_short(before.get(name))} → {_short(after.get(name))}" for name in names[:_FIELDS_SHOWN_MAX]]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def lineage_shown(graph: registry_service_pb2.GetLineageResponse) -> RenderableType:
    """Two trees from the node asked for: what it was made from, and what was made from it."""
    start = graph.nodes[0].node_id
    up: dict[str, list[tuple[str, str]]] = {}
    down: dict[str, list[tuple[str, str]]] = {}
    for edge in graph.edges:
        up.setdefault(edge.to_node, []).append((edge.relation, edge.from_node))
        down.setdefault(edge.from_node, []).append(("", edge.to_node))
    parts: list[RenderableType] = [
        _tree(f"[bold]{escape(start)}[/] [dim]{words}[/]", start, edges)
        for words, edges in (("was made from", up), ("became part of", down))
        if start in edges
    ]
    if not parts:
        parts = [f"[bold]{escape(start)}[/] [dim]was made from nothing that is known, and nothing from it[/]"]
    if graph.truncated:
        parts.append("[dim]there is more; a smaller --depth or one --direction shows all of a part[/]")
    return Group(*parts)


def _tree(label: str, start: str, edges: Mapping[str, Sequence[tuple[str, str]]]) -> Tree:
    """Each node is unfolded where it is met first, so circles end and no part is drawn twice."""
    root = Tree(label)
    seen, waiting = {start}, [(start, root)]
    while waiting:
        node, branch = waiting.pop(0)
        for relation, other in edges.get(node, ()):
            word = _WORDS.get(relation, relation)
            name = other.partition(":")[2] if word else other.removeprefix("version:")
            again = other in seen and other in edges
            twig = branch.add(f"{word} {escape(name)}".strip() + (" [dim]…[/]" if again else ""))
            if other not in seen:
                seen.add(other)
                waiting.append((other, twig))
    return root


def _short(value: object) -> str:
    text = "nothing" if value in (None, "", [], {}) else str(value)
    return text if len(text) <= _VALUE_LENGTH_MAX else f"{text[: _VALUE_LENGTH_MAX - 1]}…"
