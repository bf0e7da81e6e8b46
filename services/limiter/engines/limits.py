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


TEAMS_MAX = 500
"""Teams whose refused calls are told apart; those of others are counted under OTHER."""
OTHER = "__other__"


class Judged:
    """How calls were judged: by the kind of limit, and the refused ones by team. Read by whoever scrapes, on another
    thread; keys are told apart by nobody, there are too many."""

    def __init__(self) -> None:
        self.by_kind: dict[tuple[str, bool], int] = {}
        """Calls, by the kind of the limit and whether they were let through."""
        self.refused: dict[str, int] = {}
        """Calls that a team's limit refused, of teams that have one and called."""

    def note(self, kind: str, name: str, *, allowed: bool) -> None:
        """One more."""
        key = (kind, allowed)
        self.by_kind[key] = self.by_kind.get(key, 0) + 1
        if kind == TEAM:
            team = name if name in self.refused or len(self.refused) < TEAMS_MAX else OTHER
            # Also of a team that never was refused: a rate begins with its 0.
            self.refused[team] = self.refused.get(team, 0) + (not allowed)


class Limiter:
    """Answers gateways. `limits` is replaced whenever the registry says others."""

    def __init__(self, store: BucketStore) -> None:
        self._store = store
        self.limits = Limits()
        self.unjudged = 0
        """Calls that were let through because the store did not answer."""
        self.judged = Judged()

    async def judge(self, kind: str, name: str, hits: int) -> Decision | None:
        """What came of a call; None where it has no limit, or where the store does not answer."""
        limit = self.limits.of(kind, name)
        if limit is None:
            return None
        try:
            decision = await self._store.take(f"{kind}:{name}", limit, hits)
        except MeshError as error:
            if error.reason is not Reason.DEPENDENCY_UNAVAILABLE:
                raise
            self.unjudged += 1
            return None
        self.judged.note(kind, name, allowed=decision.allowed)
        return decision
