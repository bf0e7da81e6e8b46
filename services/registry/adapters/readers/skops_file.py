"""scikit-learn models saved by skops: a zip of plain values and arrays, with a tree that says what they are."""

import re
from collections.abc import Iterator, Mapping, Sequence

from services.registry.adapters.readers.arrays import npy_elements
from services.registry.adapters.readers.contents import Contents
from services.registry.adapters.readers.estimators import Estimator, facts_of
from services.registry.adapters.readers.json_skim import parsed
from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.readers.section import Entry
from services.registry.domain.frameworks import Understood

_TREE = "schema.json"
_TREE_BYTES_MAX = 64 * 1024 * 1024
_ARRAY_BYTES_MAX = 1024 * 1024
_NODES_MAX = 500_000
_DEPTH_MAX = 200
_TRUSTED = ("numpy.", "sklearn.", "scipy.")
_VALUES = {
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "set", "str", "int", "float", "bool", "bytes", "slice")),
    *("builtins.bytearray", "collections.OrderedDict", "collections.defaultdict"),
}
"""Beside those, what skops loads without being told to trust it."""
_FUNCTIONS = re.compile(r"numpy\.\w+|scipy\.special\.(_ufuncs\.)?\w+")
"""Functions are named apart from what they are an instance of. Of numpy and scipy some run the text they are given."""
_FORM = "a skops file of scikit-learn"


class SkopsReader:
    """A `FormatReader`."""

    form = _FORM

    def why_not(self, contents: Contents) -> str:
        """A zip with a tree in it."""
        return "" if _TREE in contents.zip() else "no skops file (no zip with a schema.json)"

    def read(self, contents: Contents) -> Understood:
        """The estimator's facts. Raises RefusedError."""
        entries = contents.zip()
        tree = parsed_tree(entries[_TREE].content(_TREE_BYTES_MAX))
        names = sorted({name for node in _nodes(tree) if "." in (name := _name(node))})
        functions = sorted({_function(node) for node in _nodes(tree) if node.get("__loader__") == "FunctionNode"})
        foreign = [name for name in names if not name.startswith(_TRUSTED) and name not in _VALUES]
        foreign += [name for name in functions if _FUNCTIONS.fullmatch(name) is None]
        if not isinstance(tree, dict) or not _name(tree).startswith("sklearn."):
            kind = _name(tree) or "no object"
            raise RefusedError(f"it holds {kind[:120]}", "save the fitted estimator of scikit-learn itself")
        facts = facts_of(_estimator(tree, entries, names))
        return Understood(
            framework="sklearn",
            form=_FORM,
            stated=facts.stated,
            framework_version=facts.version,
            class_names=facts.class_names,
            undeclared=facts.undeclared,
            unsafe=f"loading it runs code of {', '.join(foreign[:5])}, which skops does not trust" if foreign else "",
        )


def parsed_tree(data: bytes) -> object:
    """The tree of a skops file. Raises BrokenError where it is none."""
    if data.count(b"{") > _NODES_MAX:
        raise RefusedError("it holds a tree of too many parts")
    return parsed(data, parts_max=2 * _NODES_MAX)


def _nodes(tree: object) -> Iterator[Mapping[str, object]]:
    stack: list[tuple[object, int]] = [(tree, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > _DEPTH_MAX:
            raise RefusedError("it holds a tree that nests too deeply")
        if isinstance(value, dict):
            if "__class__" in value:
                yield value
            stack += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            stack += [(inner, depth + 1) for inner in value]


def _name(node: object) -> str:
    if not isinstance(node, dict):
        return ""
    module, name = node.get("__module__"), node.get("__class__")
    return f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else ""


def _function(node: Mapping[str, object]) -> str:
    content = node.get("content")
    found: Mapping[str, object] = content if isinstance(content, dict) else {}
    return f"{found.get('module_path')}.{found.get('function')}"[:120]


def _estimator(node: Mapping[str, object], entries: Mapping[str, Entry], made_of: Sequence[str]) -> Estimator:
    outer = node.get("content")
    inner = outer.get("content") if isinstance(outer, dict) else None
    attributes: Mapping[object, object] = inner if isinstance(inner, dict) else {}
    return Estimator(_name(node), lambda name: _value(attributes.get(name), entries, made_of), made_of)


def _value(node: object, entries: Mapping[str, Entry], made_of: Sequence[str]) -> object:
    """An attribute as `Estimator` promises it."""
    if not isinstance(node, dict):
        return None
    kind, content = node.get("__loader__"), node.get("content")
    if kind == "JsonNode" and isinstance(content, str):
        return parsed(content.encode())
    if kind == "NdArrayNode":
        return _array(node, entries, made_of)
    if kind == "ObjectNode":
        return _estimator(node, entries, made_of)
    if kind in ("ListNode", "TupleNode") and isinstance(content, list):
        values = [_value(one, entries, made_of) for one in content[:4096]]
        # A step of a pipeline is a name and an estimator.
        return [value[-1] if isinstance(value, list) and value else value for value in values]
    return None


def _array(node: Mapping[str, object], entries: Mapping[str, Entry], made_of: Sequence[str]) -> object:
    content, file = node.get("content"), node.get("file")
    if node.get("type") == "json" and isinstance(content, list):
        return [_value(one, entries, made_of) for one in content[:100_000]]
    entry = entries.get(file) if isinstance(file, str) else None
    if entry is None:
        raise BrokenError(f"it lacks the array {str(file)[:120]!r}")
    return list(npy_elements(entry.content(_ARRAY_BYTES_MAX))[1])
