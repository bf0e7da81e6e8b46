"""What callers are told where a feature is neither sent, nor stored, nor has a default."""

from collections.abc import Sequence

from services.batcher.domain.feature_views import CheckedRow, Lookup
from services.batcher.domain.schema_check import Violations
from services.batcher.domain.serving import ServedVersion
from services.common.errors import FieldViolation, MeshError, Reason, shown

RETRY_S = 0.25
"""When to come back while a store does not answer."""
_SHOWN_MAX = 4


class Gaps:
    """Features that are nowhere, found so far, and what callers are told of them."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._missing = Violations()
        self._unanswered: Lookup | None = None
        self._first: tuple[Lookup, str] | None = None

    def note(self, lookup: Lookup, name: str, stored: CheckedRow | None, now_s: float) -> None:
        """Notes a feature; `stored` is what there is of the row, None where no store answered."""
        if stored is None:
            self._unanswered = self._unanswered or lookup
            return
        self._first = self._first or (lookup, name)
        view = lookup.view
        whose = f"{view.entity}={shown(lookup.entity_id, length_max=60)[1:-1]}"
        if name in stored.faults:
            why = f"is stored by the feature view {view.name} for {whose}, but {stored.faults[name]}"
        elif name not in stored.values:
            why = f"is not sent, and the feature view {view.name} has none for {whose}"
        elif stored.at_s is None:
            why = f"is stored by the feature view {view.name} for {whose}, but not since when it holds"
        else:
            age_s = now_s - stored.at_s
            why = (
                f"is stored by the feature view {view.name} for {whose}, but holds since {age_s:.0f} s, longer than "
                f"max_age_s {view.max_age_s:g}"
            )
        self._missing.add(f"{self._prefix}[{lookup.place}].{name}", why)

    def raise_if_any(self, served: ServedVersion, why_not: str) -> None:
        """Raises FEATURE_MISSING or FEATURE_STORE_UNAVAILABLE where anything was noted."""
        # What is certainly missing comes first: trying again does not help there.
        if self._first is not None:
            raise _missing(served, *self._first, self._missing.found)
        if self._unanswered is not None:
            raise _unavailable(served, self._unanswered, why_not)


def _missing(served: ServedVersion, lookup: Lookup, name: str, found: Sequence[FieldViolation]) -> MeshError:
    texts = [f"{item.field} {item.description}" for item in found[:_SHOWN_MAX]]
    more = len(found) - len(texts)
    return MeshError(
        Reason.FEATURE_MISSING,
        f"{'; '.join(texts)}{f'; and {more} more' if more else ''}. Send the feature, write it to the feature store, "
        "or register a version whose view has a default for it",
        metadata={
            "model_name": served.model_name,
            "version": served.version,
            "view": lookup.view.name,
            "entity": f"{lookup.view.entity}={lookup.entity_id}"[:200],
            "feature": name,
        },
        violations=found,
    )


def _unavailable(served: ServedVersion, lookup: Lookup, why: str) -> MeshError:
    view = lookup.view
    return MeshError(
        Reason.FEATURE_STORE_UNAVAILABLE,
        f"the feature view {view.name} needs {listed(lookup.absent)} of {view.entity}, and its store "
        f"({view.store.value}) {why or 'did not answer'}; try again in {RETRY_S:g} s, or send the features",
        metadata={"model_name": served.model_name, "version": served.version, "view": view.name},
        retry_after_s=RETRY_S,
    )


def listed(names: Sequence[str]) -> str:
    """Names as a sentence quotes them."""
    return shown(", ".join(names), length_max=200)[1:-1]
