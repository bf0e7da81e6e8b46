"""Feature views of a version, compiled: what rows of each look like, and which of them an instance needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.batcher.domain.schema_check import Violations, check_value
from services.common.feature_view import FeatureStoreKind, FeatureView, OnMissing
from services.common.schema import TensorSpec


@dataclass(frozen=True, slots=True)
class StoredRow:
    """What a store holds of one entity in one view."""

    values: Mapping[str, object]
    """Plain JSON values by feature; features that the store does not have are left out."""
    at_s: float | None = None
    """Unix seconds since when the values hold; None: not said."""
    size_bytes: int = 0
    """Of the values as JSON, about."""


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A stored row, held against the version's schema. `faults` says of features why their value is none."""

    values: Mapping[str, object]
    at_s: float | None = None
    faults: Mapping[str, str] = field(default_factory=dict)


NO_ROW = CheckedRow({})
"""The store answered, and has nothing of the entity in this view."""


class ViewPlan:
    """One view of a version."""

    __slots__ = ("defaults", "entity", "features", "max_age_s", "name", "source", "specs", "store", "team")

    def __init__(self, view: FeatureView, specs: Mapping[str, TensorSpec], team: str) -> None:
        self.name = view.name
        self.entity = view.entity
        self.store: FeatureStoreKind = view.store
        self.team = team
        self.features = tuple(sorted(view.features))
        self.specs = {name: specs[name] for name in self.features}
        self.max_age_s = view.max_age_s
        self.defaults: Mapping[str, object] = view.defaults if view.on_missing is OnMissing.DEFAULT else {}
        self.source = repr(
            (view.store.value, team, view.name, view.entity, [self.specs[name] for name in self.features])
        )
        """The same for views of different versions whose rows are the same and are checked alike."""

    def checked(self, row: StoredRow | None) -> CheckedRow:
        """The row with the values that fit. Once for each row that a store gives, not for each request."""
        if row is None:
            return NO_ROW
        values: dict[str, object] = {}
        faults: dict[str, str] = {}
        for name in self.features:
            value = row.values.get(name)
            if value is None:
                continue
            found = Violations()
            if check_value(self.specs[name], value, "the stored value", found) is None:
                faults[name] = found.found[0].description
            else:
                values[name] = value
        return CheckedRow(values, row.at_s, faults)

    def usable_until_s(self, row: CheckedRow) -> float:
        """The Unix second at which the row is too old; infinite where it never is."""
        if not self.max_age_s:
            return float("inf")
        return float("-inf") if row.at_s is None else row.at_s + self.max_age_s


@dataclass(frozen=True, slots=True)
class Lookup:
    """That an instance needs features of an entity."""

    place: int
    """Of the instance in the request."""
    view: ViewPlan
    entity_id: str
    absent: tuple[str, ...]
    """The view's features that the caller did not send."""

    @property
    def key(self) -> tuple[str, str]:
        """Equal for lookups of the same row."""
        return self.view.source, self.entity_id
