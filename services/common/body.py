"""Reading JSON of any shape, such as an API server of Kubernetes sends: nothing is believed that was not looked at."""

from collections.abc import Mapping, Sequence

Body = Mapping[str, object]
"""An object of Kubernetes, or a part of one."""

NOTHING: Body = {}


def at(body: object, *path: str | int) -> object:
    """What stands at a path of keys and positions; None where there is nothing."""
    for step in path:
        if isinstance(step, int):
            body = body[step] if isinstance(body, list) and -len(body) <= step < len(body) else None
        else:
            body = body.get(step) if isinstance(body, Mapping) else None
    return body


def text(body: object, *path: str | int, default: str = "") -> str:
    """The text at a path."""
    found = at(body, *path)
    return found if isinstance(found, str) else default


def whole(body: object, *path: str | int, default: int = 0) -> int:
    """The whole number at a path."""
    found = at(body, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else default


def number(body: object, *path: str | int, default: float = 0.0) -> float:
    """The number at a path."""
    found = optional_number(body, *path)
    return default if found is None else found


def optional_number(body: object, *path: str | int) -> float | None:
    """The number at a path; None where there is none."""
    found = at(body, *path)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def flag(body: object, *path: str | int, default: bool = False) -> bool:
    """The truth value at a path."""
    found = at(body, *path)
    return found if isinstance(found, bool) else default


def table(body: object, *path: str | int) -> Body:
    """The object at a path."""
    found = at(body, *path)
    return found if isinstance(found, Mapping) else NOTHING


def items(body: object, *path: str | int) -> Sequence[object]:
    """The list at a path."""
    found = at(body, *path)
    return found if isinstance(found, list | tuple) else ()


def name_of(body: Body) -> str:
    """The object's name."""
    return text(body, "metadata", "name")


def namespace_of(body: Body) -> str:
    """The object's namespace."""
    return text(body, "metadata", "namespace")
