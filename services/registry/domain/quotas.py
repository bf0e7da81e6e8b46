"""What a team may use, and how fast it may call."""

import math
from dataclasses import dataclass

from services.common.errors import MeshError, Reason
from services.common.quantity import parse_quantity
from services.registry.domain.violations import Violations

_QUANTITY_ALLOWED = "a quantity as Kubernetes writes it, for instance '64', '500m' or '256Gi'; empty for no limit"
_COUNT_MAX = 2**31 - 1
_BYTES_MAX = 2.0**60
_REQUESTS_MAX = 1e9


@dataclass(frozen=True, slots=True)
class ResourceQuota:
    """The most that a team's models may use at one time; "" and None: no limit."""

    cpu: str = ""
    memory: str = ""
    gpu: int | None = None
    models: int | None = None
    batch_concurrency: int | None = None
    artifact_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket. `requests_per_sec` 0: no limit; `burst` 0: as many as `requests_per_sec`."""

    requests_per_sec: float = 0.0
    burst: float = 0.0


def check_quota(quota: ResourceQuota, found: Violations, field: str = "resource_quota") -> None:
    """Adds every limit that is none."""
    for name, text in (("cpu", quota.cpu), ("memory", quota.memory)):
        found.unless(not text or parse_quantity(text) is not None, f"{field}.{name}", text, _QUANTITY_ALLOWED)
    for name, count in (("gpu", quota.gpu), ("models", quota.models), ("batch_concurrency", quota.batch_concurrency)):
        found.unless(count is None or 0 <= count <= _COUNT_MAX, f"{field}.{name}", count, f"0 to {_COUNT_MAX}")
    size = quota.artifact_bytes
    fits = size is None or (math.isfinite(size) and 0 <= size <= _BYTES_MAX)
    found.unless(fits, f"{field}.artifact_bytes", size, f"0 to {_BYTES_MAX:.0f}")


def check_rate_limit(limit: RateLimit, found: Violations, field: str = "rate_limit") -> None:
    """Adds what is no rate."""
    for name, value in (("requests_per_sec", limit.requests_per_sec), ("burst", limit.burst)):
        fits = math.isfinite(value) and 0 <= value <= _REQUESTS_MAX
        found.unless(fits, f"{field}.{name}", value, f"0 to {_REQUESTS_MAX:.0f}")


@dataclass(frozen=True, slots=True)
class Use:
    """What a team has in the registry, or what it would have more."""

    models: int = 0
    artifact_bytes: int = 0
    """Each artifact counted once."""


def check_room(team: str, quota: ResourceQuota, *, used: Use, more: Use) -> None:
    """Raises QUOTA_EXCEEDED where a team may not have so much more; nobody is refused for what is there already."""
    limits = (
        ("models", quota.models, used.models, more.models, "models"),
        ("artifact_bytes", quota.artifact_bytes, used.artifact_bytes, more.artifact_bytes, "bytes of artifacts"),
    )
    for name, allowed, has, wants, what in limits:
        if allowed is not None and wants > 0 and has + wants > allowed:
            raise MeshError(
                Reason.QUOTA_EXCEEDED,
                f"team {team!r} has {has} of the {allowed:.0f} {what} that its quota {name!r} allows, {wants} more "
                "would be too many; remove some, or ask an operator of the mesh for more",
                metadata={"team": team, "limit": name, "value": f"{allowed:.0f}", "used": str(has)},
            )
