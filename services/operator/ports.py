"""What the operator's engines need of the world."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.common.body import Body
from services.operator.domain.ab_test import AbTestStanding, AbTestWish
from services.operator.domain.applying import Key
from services.operator.domain.fetch_key import FetchKey
from services.operator.domain.manifests.parts import Manifest
from services.operator.domain.manifests.team import Team
from services.operator.domain.options import VersionFacts

Name = tuple[str, str]
"""Namespace and name of an object."""


class Cluster(Protocol):
    """The API server. Every call may raise DEPENDENCY_UNAVAILABLE; what the server refuses is CLUSTER_REFUSED with its
    own words, a conflict is ETAG_MISMATCH."""

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Body:
        """Applies by the operator's field manager, taking over fields of others; what came of it. With `dry_run`
        nothing is stored."""
        ...

    async def apply_status(self, manifest: Manifest) -> Body:
        """Applies a status; fields and conditions of other managers stay."""
        ...

    async def annotate(self, body: Body, annotations: Mapping[str, str | None]) -> Body:
        """Sets and, where None, removes annotations alone."""
        ...

    async def delete(self, body: Body) -> None:
        """Deletes exactly this object, and what it owns with it. What is gone already is no error."""
        ...

    async def named(self, kind: str, name: str) -> Sequence[Body]:
        """The objects of this kind and name of all namespaces."""
        ...

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Body]:
        """Pods with these labels."""
        ...

    async def record_event(self, about: Body, *, kind: str, reason: str, message: str) -> None:
        """An Event that `kubectl describe` shows. `kind`: Normal or Warning."""
        ...


class View(Protocol):
    """What the API server last told: kept in memory by watching it, never asked for."""

    def wish(self, name: Name) -> Body | None:
        """A ModelDeployment."""
        ...

    def children(self, name: Name) -> Mapping[Key, Body]:
        """All that was made for a ModelDeployment."""
        ...

    def quotas(self, namespace: str) -> Sequence[Body]:
        """The quotas of a namespace."""
        ...


class Versions(Protocol):
    """The registry's versions."""

    async def facts(self, model_name: str, version: str) -> VersionFacts:
        """What a version is. Raises MODEL_NOT_FOUND, VERSION_NOT_FOUND, DEPENDENCY_UNAVAILABLE."""
        ...


class Teams(Protocol):
    """The registry's teams."""

    async def every(self) -> Sequence[Team]:
        """All teams. Raises DEPENDENCY_UNAVAILABLE."""
        ...


class FetchKeys(Protocol):
    """The registry's keys, as far as replicas fetch by them."""

    async def make(self, team: str, *, ends_at: datetime) -> FetchKey:
        """A new key of a team that can only read. Raises TEAM_NOT_FOUND, QUOTA_EXCEEDED, DEPENDENCY_UNAVAILABLE."""
        ...

    async def revoke(self, team: str, key_id: str, *, reason: str) -> None:
        """Ends a key. Raises DEPENDENCY_UNAVAILABLE."""
        ...

    def revoked(self, key_id: str) -> bool:
        """Whether a key was revoked, by what the registry said last."""
        ...


class AbTests(Protocol):
    """The router's A/B tests."""

    async def create(self, wish: AbTestWish) -> AbTestStanding:
        """Starts a test; called again for the same object it returns the first one."""
        ...

    async def find(self, wish: AbTestWish) -> AbTestStanding | None:
        """How a test stands; None where there is none."""
        ...

    async def stop(self, wish: AbTestWish, *, reason: str) -> AbTestStanding | None:
        """Ends a test without a conclusion; None where there is none."""
        ...


class LeaseStore(Protocol):
    """The Lease of the operators. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def read(self) -> Body | None:
        """The lease; None where there is none."""
        ...

    async def write(self, spec: Body, *, over: Body | None) -> Body | None:
        """Stores the lease over what was read (None: where there was none); None where somebody was quicker."""
        ...
