"""Columns of an input whose files may have different ones, as lines of JSON have different keys.

What is looked for by name counts as a column where any file has it, so that no file's values are passed over in
silence: and then every file has it, unless it may be left out. Of all other keys those are columns that every file has.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.batch.domain.job import NamedColumn

_SPREAD = re.compile(r"(.+)[_.](0|[1-9]\d{0,9})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Gap:
    """A column that is needed, a file that has it, and one that has not."""

    column: str
    having: str
    lacking: str


class FileKeys:
    """Gathers the keys of files."""

    def __init__(self, named: Iterable[NamedColumn]) -> None:
        self._named = {one.name: one for one in named}
        self._seen: dict[frozenset[str], str] = {}
        """By keys, the first file that has these: files of one writer have the same."""
        self._order: dict[str, str] = {}
        """Each key with the first file that has it."""

    def add(self, path: str, keys: Sequence[str]) -> None:
        """Adds a file."""
        known = frozenset(keys)
        if known not in self._seen:
            self._seen[known] = path
            for key in keys:
                self._order.setdefault(key, path)

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that every file has, in the order in which they appear; then those of some, which identify no row."""
        common = frozenset.intersection(*self._seen) if self._seen else frozenset()
        some = (key for key in self._order if key not in common and self._name_of(key) is not None)
        return (*(key for key in self._order if key in common), *some)

    def gap(self, needed: Sequence[str] = ()) -> Gap | None:
        """The first column that is needed, by its name or as one of `needed`, and that not all files have."""
        for column, having in self._order.items():
            named = self._name_of(column)
            if column not in needed and (named is None or named.optional):
                continue
            for known, path in self._seen.items():
                if column not in known:
                    return Gap(column, having, path)
        return None

    def _name_of(self, key: str) -> NamedColumn | None:
        """What a key was looked for as: by its name, or as one of those that a feature is spread over."""
        found = self._named.get(key)
        if found is not None:
            return found
        spread = _SPREAD.fullmatch(key)
        base = self._named.get(spread[1]) if spread is not None else None
        return base if base is not None and spread is not None and int(spread[2]) < base.spread else None
