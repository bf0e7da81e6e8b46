"""Patterns of names: "*" and "?" and "[…]" stand for letters of one part of a path, "**" for any number of parts."""

import re
from functools import cache

_WILD = "*?["


def has_wildcard(path: str) -> bool:
    """Whether a path is a pattern."""
    return any(letter in path for letter in _WILD)


def literal_base(pattern: str) -> str:
    """What stands before the first part with a wildcard, "/" included; empty where that is the first."""
    kept: list[str] = []
    for part in pattern.split("/"):
        if has_wildcard(part):
            break
        kept.append(part)
    else:
        kept = kept[:-1]
    return "".join(f"{part}/" for part in kept)


@cache
def matcher(pattern: str) -> re.Pattern[str]:
    """Matches a whole path that a pattern names, or that lies in a folder that it names. Names that begin with "." are
    matched by no wildcard, as in a shell. Raises ValueError where a "[…]" makes no sense."""
    *parts, last = pattern.rstrip("/").split("/")
    pieces = [r"(?:[^/.][^/]*/)*" if part == "**" else f"{_within_part(part)}/" for part in parts]
    pieces.append(".+" if last == "**" else _within_part(last))
    return re.compile("(?s)" + "".join(pieces) + r"(?:/.+)?\Z")


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern names a path, or a folder that holds it."""
    return matcher(pattern).match(path) is not None


def is_passed_over(name: str) -> bool:
    """Whether a file is no data by its name or by that of a folder above it: hidden, or a mark such as _SUCCESS of
    whoever wrote the folder. `name` is relative to the folder that was asked for."""
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _within_part(part: str) -> str:
    """The regular expression of one part of a pattern."""
    pieces = [r"(?!\.)"] if part[0:1] in tuple(_WILD) else []
    at = 0
    while at < len(part):
        letter = part[at]
        at += 1
        if letter == "*":
            pieces.append("[^/]*")
        elif letter == "?":
            pieces.append("[^/]")
        elif letter == "[" and (end := _class_end(part, at)) > 0:
            inside = part[at:end].replace("\\", r"\\")
            negated = inside.startswith("!")
            inside = inside[1:] if negated else inside
            inside = re.sub(r"([&~|\[^])", r"\\\1", inside)
            pieces.append(f"(?!/)[{'^' if negated else ''}{inside}]")
            at = end + 1
        else:
            pieces.append(re.escape(letter))
    return "".join(pieces)


def _class_end(part: str, at: int) -> int:
    """Where "[…]" ends; a "]" that is its first letter is one of it."""
    begin = at + 1 if part[at : at + 1] == "!" else at
    return part.find("]", begin + 1)
