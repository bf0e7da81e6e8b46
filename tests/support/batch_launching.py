"""Clusters in memory, for tests of who launches the work of jobs in them."""

import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.batch.domain.indexed_job import Manifest
from services.batch.domain.launched import Launched, read_launched
from services.batch.engines.launch import Launches, LaunchOptions
from services.batch.ports_launch import Launcher
from services.common.body import Body, name_of, namespace_of
from services.common.clock import Clock, SystemClock
from services.common.errors import MeshError
from services.common.signals import Signal
from tests.support.batch_chunk_fakes import MemoryChunks
from tests.support.batch_job_cases import OPTIONS


@dataclass
class KnownNamespaces:
    """A `Namespaces`, where every team has one of its own name."""

    async def of(self, team: str) -> str:
        """The same."""
        return team


@dataclass
class MemoryCluster:
    """A `Launcher`. `step` is called before and after each call to the API server, and may raise."""

    bodies: dict[tuple[str, str], dict[str, object]] = field(default_factory=dict)
    all_pods: list[Body] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """Why no pods are made."""
    refusal: MeshError | None = None
    """What every call is answered with."""
    step: Callable[[], None] = lambda: None
    made: int = 0
    changed: Signal = field(default_factory=Signal)
    synced: bool = True
    trouble: MeshError | None = None

    def jobs(self) -> Sequence[Launched]:
        """All."""
        return [read_launched(body) for body in self.bodies.values()]

    def find(self, namespace: str, name: str) -> Launched | None:
        """One."""
        body = self.bodies.get((namespace, name))
        return read_launched(body) if body is not None else None

    def pods(self, job: Launched) -> Sequence[Body]:
        """What the test says."""
        assert job.uid
        return self.all_pods

    async def refusals(self, job: Launched) -> Sequence[str]:
        """What the test says."""
        assert job.uid
        return self.said

    async def apply(self, manifest: Manifest) -> None:
        """Makes it, or changes what may be changed."""
        self._called()
        key = (namespace_of(manifest), name_of(manifest))
        if key not in self.bodies:
            self.made += 1
            body = copy.deepcopy(dict(manifest))
            metadata = body["metadata"]
            assert isinstance(metadata, dict)
            self.bodies[key] = {**body, "metadata": {**metadata, "uid": f"uid-{self.made}"}, "status": {}}
        self._done()

    async def change(self, job: Launched, changes: Manifest) -> None:
        """Merges."""
        self._called()
        body = self._very(job)
        if body is not None:
            spec, more = body["spec"], changes["spec"]
            assert isinstance(spec, dict)
            assert isinstance(more, Mapping)
            body["spec"] = {**spec, **more}
        self._done()

    async def remove(self, job: Launched) -> None:
        """Removes."""
        self._called()
        if self._very(job) is not None:
            del self.bodies[job.namespace, job.name]
        self._done()

    def becomes(self, kind: str, reason: str = "", **status: object) -> None:
        """Every Job that there is has a condition, or none where `kind` is empty, and more of a status."""
        conditions = [{"type": kind, "status": "True", "reason": reason, "message": reason}] if kind else []
        for body in self.bodies.values():
            body["status"] = {"conditions": conditions, **status}
        self.changed.fire()

    def _very(self, job: Launched) -> dict[str, object] | None:
        found = self.find(job.namespace, job.name)
        return self.bodies[job.namespace, job.name] if found is not None and found.uid == job.uid else None

    def _called(self) -> None:
        self.step()
        if self.refusal is not None:
            raise self.refusal

    def _done(self) -> None:
        self.changed.fire()
        self.step()


def launches_in(
    clusters: Mapping[str, Launcher],
    store: MemoryChunks,
    *,
    clock: Clock | None = None,
    start_timeout_s: float = 60.0,
    silent_timeout_s: float = 3600.0,
    ever_leased: Callable[[str], Awaitable[bool]] | None = None,
    outage_timeout_s: float = 60.0,
    poll_period_s: float = 0.01,
) -> Launches:
    """All clusters, over a store in memory."""
    options = LaunchOptions(
        pods=OPTIONS,
        namespace_default="default",
        start_timeout_s=start_timeout_s,
        silent_timeout_s=silent_timeout_s,
        outage_timeout_s=outage_timeout_s,
        poll_period_s=poll_period_s,
    )
    return Launches(
        clusters,
        namespaces=KnownNamespaces(),
        standings=store.standings,
        ever_leased=ever_leased or store.ever_leased,
        options=options,
        clock=clock or SystemClock(),
    )
