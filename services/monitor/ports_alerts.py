"""What alert rules, channels and silences need from outside, beside the alerts themselves."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.monitor.domain.aggregate import Cell
from services.monitor.domain.alerts import Alert
from services.monitor.domain.channels import Channel, ChannelSpec, Silence
from services.monitor.domain.deployments import SeenDeployment
from services.monitor.domain.evidence import MetricSum
from services.monitor.domain.judging import DriftSeen
from services.monitor.domain.rounds import Known, Round
from services.monitor.domain.rules import Rule, RuleSpec

Version = tuple[str, str]
"""Model and version."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who makes something, and the id under which the same call is made once ("": it is not repeated)."""

    by: str = ""
    request_id: str = ""


class RuleStore(Protocol):
    """Alert rules, and what is remembered between looks. Raises MeshError DEPENDENCY_UNAVAILABLE where it is away."""

    async def create(self, spec: RuleSpec, asked: Asked, *, now: datetime) -> Rule:
        """Makes a rule; with a known request id, the one that it made. Raises ALERT_RULE_EXISTS, REQUEST_ID_REUSED, and
        CHANNEL_NOT_FOUND for a channel that there is not."""
        ...

    async def get(self, name: str) -> Rule | None:
        """One rule."""
        ...

    async def find(
        self, model: str, *, after: str, limit: int, models: Collection[str] | None = None
    ) -> Sequence[Rule]:
        """Rules by name, from behind that one, of a model (any for ""); with `models`, those of these and of none."""
        ...

    async def update(self, spec: RuleSpec, *, etag: str, now: datetime) -> Rule | None:
        """The rule as it is from now on; None where there is none. One that is off has no open alerts. Raises
        ETAG_MISMATCH and CHANNEL_NOT_FOUND."""
        ...

    async def delete(self, name: str, *, etag: str, now: datetime) -> bool:
        """Removes a rule and ends its alerts; whether there was one. Raises ETAG_MISMATCH."""
        ...

    async def known(self) -> Known:
        """What a look begins with."""
        ...

    async def apply(self, known: Known, turned: Round, *, now: datetime) -> bool:
        """Stores what a look changes and writes what is to be told, unless something changed since it began."""
        ...


class ChannelStore(Protocol):
    """Notification channels. Raises MeshError DEPENDENCY_UNAVAILABLE where it is away."""

    async def create(self, spec: ChannelSpec, secret: str, asked: Asked, *, now: datetime) -> Channel:
        """Makes a channel. Raises CHANNEL_EXISTS and REQUEST_ID_REUSED."""
        ...

    async def get(self, name: str) -> Channel | None:
        """One channel."""
        ...

    async def secret(self, name: str) -> str:
        """Its secret; "" for none."""
        ...

    async def find(self, *, after: str, limit: int) -> Sequence[Channel]:
        """Channels by name."""
        ...

    async def update(self, spec: ChannelSpec, secret: str, *, etag: str, now: datetime) -> Channel | None:
        """The channel as it is from now on, an empty secret as it was. Raises ETAG_MISMATCH."""
        ...

    async def delete(self, name: str, *, etag: str) -> bool:
        """Removes a channel; whether there was one. Raises ETAG_MISMATCH, and RESOURCE_IN_USE while a rule names it."""
        ...


class SilenceStore(Protocol):
    """Silences. Raises MeshError DEPENDENCY_UNAVAILABLE where it is away."""

    async def create(self, silence: Silence, asked: Asked, *, now: datetime) -> Silence:
        """Makes a silence. Raises REQUEST_ID_REUSED."""
        ...

    async def get(self, silence_id: str) -> Silence | None:
        """One silence."""
        ...

    async def find(self, *, now: datetime) -> Sequence[Silence]:
        """Those that are not over, the one that ends first at the head."""
        ...

    async def delete(self, silence_id: str, *, now: datetime) -> bool:
        """Ends a silence; whether there was one."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """How far a channel was told of an alert: "pending", "sent" or "failed"."""

    channel: str
    status: str
    attempts: int
    problem: str
    attempted_at: datetime | None


@dataclass(frozen=True)
class Notice:
    """A letter: alerts as they were when it was written, to a channel. `means` "rollout" goes to the router."""

    notice_id: str
    means: str
    channel: str
    stage: str
    alerts: tuple[Alert, ...]
    created_at: datetime
    tries: int


class TellingStore(Protocol):
    """What has been written to channels. Raises MeshError DEPENDENCY_UNAVAILABLE where it is away."""

    async def told(self, alert_ids: Collection[str]) -> Mapping[str, Sequence[Told]]:
        """By alert, how far each channel was told."""
        ...

    async def done(self, alert_id: str, words: str, *, now: datetime) -> None:
        """Notes with an alert what became of its canary, once."""
        ...

    async def forget(self, *, before: datetime) -> None:
        """Removes letters that ended before that moment."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """Whole minutes since the Unix epoch, from `first` to before `end`."""

    first: int
    end: int


class WindowReader(Protocol):
    """Reads windows of all models at once. Raises MeshError DEPENDENCY_UNAVAILABLE where it cannot."""

    async def cells(
        self, spans: Sequence[Span], *, sketched: Collection[Span], names: Collection[str]
    ) -> Mapping[Span, Mapping[Version, Cell]]:
        """The sums of each version in each span; latencies only of those in `sketched`. `names`: the counts read."""
        ...

    async def outcomes(
        self, spans: Sequence[Span], metrics: Collection[str]
    ) -> Mapping[Span, Mapping[Version, Mapping[str, MetricSum]]]:
        """The outcomes of each version in each span, of these metrics."""
        ...


class DriftReports(Protocol):
    """What drift reports say."""

    async def newest(self) -> Mapping[Version, DriftSeen]:
        """The newest report of each version that has one that is not out of date."""
        ...


@dataclass(frozen=True, slots=True)
class ModelChange:
    """The last change of a model: what it was, and the command that undoes it ("": none)."""

    words: str
    undo: str = ""


class ChangeSource(Protocol):
    """Knows what changed."""

    async def last(self, model: str) -> ModelChange | None:
        """The last change of a model; None where nothing is known of any. Raises MeshError."""
        ...


class DeploymentSource(Protocol):
    """Knows how deployments are. Raises MeshError where the deployer cannot be reached."""

    def watch(self) -> AsyncIterator[tuple[SeenDeployment, bool]]:
        """All deployments, then each that changes, and whether it was removed; until the deployer ends it."""
        ...

    async def get(self, model: str, name: str) -> SeenDeployment | None:
        """One deployment; None where there is none."""
        ...


class Canaries(Protocol):
    """What may be done to canaries."""

    async def act(self, alert: Alert, action: str) -> str:
        """Holds the canary of the alert's model, or rolls it back, once; what became of it, as a sentence. Raises
        MeshError where the router cannot be reached."""
        ...
