"""Joining features of a feature store to instances: who needs what, and what each gets.

Nothing here asks a store. A plan is compiled when the serving table changes. `lookups` says which rows of which views a
request needs, `joined` puts what was found into the instances, or says what is nowhere. What a caller sends always
wins, so a request that sends every feature of a view needs neither the store nor the entity's key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.batcher.domain.feature_gaps import Gaps, listed
from services.batcher.domain.feature_views import CheckedRow, Lookup, ViewPlan
from services.batcher.domain.instances import Row
from services.batcher.domain.schema_check import Violations, schema_violation
from services.batcher.domain.serving import ServedVersion
from services.common.errors import MeshError, Reason, shown

ENTITY_BYTES_MAX = 512


@dataclass(slots=True)
class Outcomes:
    """What a join did, by view: how many features were taken from rows, replaced by defaults, or nowhere."""

    defaults: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)


class JoinPlan:
    """How features are joined to the instances of a version that has views."""

    __slots__ = ("_removed", "served", "views")

    def __init__(self, served: ServedVersion) -> None:
        """Raises INVALID_FIELD where a view names what is no input of the version."""
        specs = {spec.name: spec for spec in served.schema.inputs}
        for view in served.feature_views:
            for name in view.features:
                if name not in specs:
                    raise MeshError(
                        Reason.INVALID_FIELD, f"feature view {view.name}: {name!r} is no input of the version"
                    )
        self.served = served
        self.views = tuple(ViewPlan(view, specs, served.team) for view in served.feature_views)
        self._removed = tuple(dict.fromkeys(view.entity for view in self.views if view.entity not in specs))

    @property
    def entities(self) -> tuple[str, ...]:
        """The entities' keys that are no inputs of the version."""
        return self._removed

    def lookups(self, rows: Sequence[Row], *, prefix: str = "instances") -> list[Lookup]:
        """What must be asked for. Raises SCHEMA_VIOLATION naming instances that do not say whose features they need."""
        wanted: list[Lookup] = []
        violations = Violations()
        for place, row in enumerate(rows):
            for view in self.views:
                absent = tuple([name for name in view.features if row.get(name) is None])
                if not absent:
                    continue
                entity_id = _entity_id(row.get(view.entity))
                if isinstance(entity_id, str):
                    wanted.append(Lookup(place, view, entity_id, absent))
                    continue
                violations.add(
                    f"{prefix}[{place}].{view.entity}",
                    f"{entity_id.problem}; expected a text or a whole number, by which the feature view {view.name} "
                    f"finds {listed(absent)}; or send {'it' if len(absent) == 1 else 'them'}",
                )
        if violations.found:
            raise schema_violation(self.served, violations.found)
        return wanted

    def joined(
        self,
        rows: Sequence[Row],
        lookups: Sequence[Lookup],
        found: Mapping[tuple[str, str], CheckedRow],
        *,
        now_s: float,
        why_not: str = "",
        outcomes: Outcomes | None = None,
        prefix: str = "instances",
    ) -> list[Row]:
        """The instances with all their features. `found` lacks the rows that no store answered for in time, and
        `why_not` says why. Raises FEATURE_MISSING or FEATURE_STORE_UNAVAILABLE."""
        outcomes = outcomes if outcomes is not None else Outcomes()
        made: list[dict[str, object]] = [dict(row) for row in rows]
        gaps = Gaps(prefix)
        for lookup in lookups:
            self._fill(made[lookup.place], lookup, found.get(lookup.key), now_s=now_s, gaps=gaps, outcomes=outcomes)
        for name in self._removed:
            for row in made:
                row.pop(name, None)
        gaps.raise_if_any(self.served, why_not)
        return list(made)

    @staticmethod
    def _fill(
        row: dict[str, object],
        lookup: Lookup,
        stored: CheckedRow | None,
        *,
        now_s: float,
        gaps: Gaps,
        outcomes: Outcomes,
    ) -> None:
        view = lookup.view
        usable = stored is not None and now_s <= view.usable_until_s(stored)
        for name in lookup.absent:
            if usable and stored is not None and name in stored.values:
                row[name] = stored.values[name]
            elif name in view.defaults:
                row[name] = view.defaults[name]
                outcomes.defaults[view.name] = outcomes.defaults.get(view.name, 0) + 1
            else:
                outcomes.missing[view.name] = outcomes.missing.get(view.name, 0) + 1
                gaps.note(lookup, name, stored, now_s)


@dataclass(frozen=True, slots=True)
class _Misfit:
    problem: str


def _entity_id(value: object) -> "str | _Misfit":
    """The entity's id as stores know it: whole numbers as their decimal text."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return _Misfit(f"is {shown(value, length_max=60)}, which is no UTF-8")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        if 0 < len(value) <= ENTITY_BYTES_MAX and len(value.encode(errors="replace")) <= ENTITY_BYTES_MAX:
            return value
        return _Misfit(f"has {len(value)} characters, and 1 to {ENTITY_BYTES_MAX} bytes are allowed")
    return _Misfit("is missing" if value is None else f"is {shown(value, length_max=60)}")
