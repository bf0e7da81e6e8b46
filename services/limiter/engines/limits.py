"""Who may call how fast: the limits, as the registry says them, and their buckets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.errors import MeshError, Reason
from services.limiter.domain.buckets import Decision, Limit
from services.limiter.ports import BucketStore

TEAM, KEY = "team", "key"
"""The kinds of callers that have limits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of teams by name and of keys by id; who is not in it has none."""

    teams: Mapping[str, Limit] = field(default_factory=dict)
    keys: Mapping[str, Limit] = field(default_factory=dict)

    def of(self, kind: str, name: str) -> Limit | None:
        """The limit of one caller."""
        return {TEAM: self.teams, KEY: self.keys}.get(kind, {}).get(name)


class Limiter:
    """Answers gateways. `limits` is replaced whenever the registry says others."""

    def __init__(self, store: BucketStore) -> None:
        self._store = store
        self.limits = Limits()
        self.unjudged = 0
        """Calls that were let through because the store did not answer."""

    async def judge(self, kind: str, name: str, hits: int) -> Decision | None:
        """What came of a call; None where it has no limit, or where the store does not answer."""
        limit = self.limits.of(kind, name)
        if limit is None:
            return None
        try:
            return await self._store.take(f"{kind}:{name}", limit, hits)
        except MeshError as error:
            if error.reason is not Reason.DEPENDENCY_UNAVAILABLE:
                raise
            self.unjudged += 1
            return None
