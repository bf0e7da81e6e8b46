"""Features that a version takes from a feature store: the domain twin of `infermesh.common.v1.FeatureView`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class FeatureStoreKind(StrEnum):
    """Where a view is kept."""

    REDIS = "redis"
    FEAST = "feast"


class OnMissing(StrEnum):
    """What to do about a feature that is nowhere."""

    ERROR = "error"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class FeatureView:
    """One view. `features` maps inputs of the version to their types in the short form; `defaults` holds JSON values;
    `max_age_s` 0 is any age."""

    name: str
    entity: str
    features: Mapping[str, str]
    store: FeatureStoreKind = FeatureStoreKind.REDIS
    on_missing: OnMissing = OnMissing.ERROR
    defaults: Mapping[str, object] = field(default_factory=dict)
    max_age_s: float = 0.0
