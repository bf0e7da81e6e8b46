"""A whole operator over an API server, with a registry and a router that answer at once."""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.lifecycle import Lifecycle
from services.operator.domain.ab_test import AbTestStanding, AbTestWish
from services.operator.domain.fetch_key import FetchKey
from services.operator.domain.manifests.team import Team
from services.operator.domain.options import VersionFacts
from services.operator.settings import OperatorSettings
from services.operator.wiring import Operator, assemble

DIGEST = "9f" * 32


@dataclass
class KnownVersions:
    """A `Versions`: every version of every model, but for those that are said to be missing."""

    missing: set[tuple[str, str]] = field(default_factory=set)
    stages: dict[tuple[str, str], str] = field(default_factory=dict)
    asked: int = 0

    async def facts(self, model_name: str, version: str) -> VersionFacts:
        """What a version is."""
        self.asked += 1
        if (model_name, version) in self.missing:
            raise MeshError(Reason.VERSION_NOT_FOUND, f"model {model_name!r} has no version {version}; register it")
        return VersionFacts(
            "onnx", DIGEST, 5_000_000, team="red", stage=self.stages.get((model_name, version), "active")
        )


@dataclass
class KnownTeams:
    """A `Teams`."""

    teams: list[Team] = field(default_factory=list)

    async def every(self) -> Sequence[Team]:
        """All teams."""
        return list(self.teams)


@dataclass
class PlayedFetchKeys:
    """A `FetchKeys` that counts the keys it makes."""

    made: list[FetchKey] = field(default_factory=list)
    teams: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)

    async def make(self, team: str, *, ends_at: datetime) -> FetchKey:
        """A new key."""
        key = FetchKey(f"key-{len(self.made) + 1}", f"secret-{len(self.made) + 1}-of-{team}", ends_at)
        self.made.append(key)
        self.teams.append(team)
        return key

    async def revoke(self, team: str, key_id: str, *, reason: str) -> None:
        """Ends a key."""
        self.gone.add(key_id)

    def revoked(self, key_id: str) -> bool:
        """Whether a key was ended."""
        return key_id in self.gone


@dataclass
class PlayedAbTests:
    """An `AbTests` that keeps tests as the router does: one of a name, and none begins again."""

    tests: dict[tuple[str, str], AbTestStanding] = field(default_factory=dict)
    refusal: MeshError | None = None
    stopped: dict[str, str] = field(default_factory=dict)

    async def create(self, wish: AbTestWish) -> AbTestStanding:
        """Starts a test."""
        if self.refusal is not None:
            raise self.refusal
        return self.tests.setdefault(
            (wish.model_name, wish.name),
            AbTestStanding("running", "it began", control=max(wish.versions, key=wish.versions.__getitem__)),
        )

    async def find(self, wish: AbTestWish) -> AbTestStanding | None:
        """How a test stands."""
        return self.tests.get((wish.model_name, wish.name))

    async def stop(self, wish: AbTestWish, *, reason: str) -> AbTestStanding | None:
        """Ends a test."""
        key = (wish.model_name, wish.name)
        self.stopped[wish.name] = reason
        if key in self.tests:
            self.tests[key] = replace(self.tests[key], phase="stopped", message=reason)
        return self.tests.get(key)


@dataclass(frozen=True)
class Site:
    """An operator, and whom it asks."""

    operator: Operator
    versions: KnownVersions
    teams: KnownTeams
    ab_tests: PlayedAbTests


@asynccontextmanager
async def operator_site(
    kubeconfig: Path,
    *,
    versions: KnownVersions | None = None,
    teams: KnownTeams | None = None,
    keys: PlayedFetchKeys | None = None,
    ab_tests: PlayedAbTests | None = None,
    options: Mapping[str, object] | None = None,
) -> AsyncIterator[Site]:
    """An operator that works, and one that stops orderly at the end."""
    versions, ab_tests, keys = versions or KnownVersions(), ab_tests or PlayedAbTests(), keys or PlayedFetchKeys()
    clock = SystemClock()
    lifecycle = Lifecycle(name="operator", clock=clock)
    settings = OperatorSettings.model_validate(
        {
            "port": 0,
            "metrics_port": 0,
            "kubeconfig": kubeconfig,
            "instance": f"operator-{secrets.token_hex(3)}",
            "lease_namespace": (options or {}).get("namespaces", "default"),
            "lease_lasts_s": 3,
            "drain_s": 1,
            "prometheus_url": "http://prometheus.monitoring.svc:9090",
            **(options or {}),
        }
    )
    operator = assemble(
        settings, clock=clock, lifecycle=lifecycle, versions=versions, teams=teams, keys=keys, ab_tests=ab_tests
    )
    await lifecycle.start()
    try:
        yield Site(operator, versions, teams or KnownTeams(), ab_tests)
    finally:
        await lifecycle.stop()
