"""What the drift engines need from outside. Stores raise MeshError DEPENDENCY_UNAVAILABLE where they cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.monitor.domain.drift.accuracy import Realised
from services.monitor.domain.drift.reports import Baseline, Report, Span
from services.monitor.domain.drift.summary import Summary


class SliceStore(Protocol):
    """Summaries of traffic by version and slot."""

    async def read(self, model: str, version: str, span: Span) -> Summary:
        """All of a version within a window that begins and ends with slots."""
        ...

    async def compact(self, *, now: datetime) -> int:
        """Puts parts of slots that have settled together, and of hours of days past; how many slots it worked on."""
        ...


class BaselineStore(Protocol):
    """Baselines."""

    async def create(self, baseline: Baseline, *, request_id: str) -> Baseline:
        """Adds one; the one that the same `request_id` made before, where it is not empty. Raises REQUEST_ID_REUSED
        where that one has another source."""
        ...

    async def get(self, model: str, baseline_id: str) -> Baseline | None:
        """One; None where there is none."""
        ...

    async def find(
        self, model: str, version: str, *, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Baseline]:
        """Those of a model, newest first, of all versions where `version` is empty."""
        ...

    async def delete(self, model: str, baseline_id: str) -> bool:
        """Whether there was one."""
        ...

    async def claim(self, *, now: datetime) -> Baseline | None:
        """A pending one that nobody else reads now; it is this caller's for some minutes."""
        ...

    async def activate(self, baseline: Baseline, summary: Summary) -> None:
        """It is read: from now on it is the version's, in place of the one before."""
        ...

    async def fail(self, baseline: Baseline, message: str) -> None:
        """It cannot be read."""
        ...

    async def active(self, model: str, version: str) -> tuple[Baseline, Summary] | None:
        """The version's."""
        ...

    async def all_active(self) -> Sequence[Baseline]:
        """Of every version that has one."""
        ...


class ReportStore(Protocol):
    """Drift reports."""

    async def add(self, report: Report, *, request_id: str, scheduled: bool) -> Report:
        """Keeps a report. Where the same call, or another monitor on schedule, made it before, that one."""
        ...

    async def made(self, model: str, request_id: str) -> Report | None:
        """What a call with this id made before."""
        ...

    async def has(self, baseline_id: str, span: Span) -> bool:
        """Whether the schedule has made the window's report."""
        ...

    async def get(self, model: str, report_id: str) -> Report | None:
        """One, with what outcomes say by now; None where there is none."""
        ...

    async def find(
        self,
        model: str,
        version: str,
        *,
        severities: Sequence[str],
        span: Span,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> Sequence[Report]:
        """Those of a model that were made within a window, newest first, without bins."""
        ...

    async def newest(self, *, since: datetime) -> Sequence["Severities"]:
        """How many features drift by severity, by the newest report of each version since then."""
        ...

    async def accuracy(self, model: str, version: str, span: Span) -> Realised | None:
        """What outcomes say of a window; None without any."""
        ...

    async def forget(self, *, before: datetime) -> None:
        """Removes reports, and baselines that are in use no more, made before that moment."""
        ...


@dataclass(frozen=True)
class Severities:
    """How many features of a version have which severity."""

    model: str
    version: str
    counts: Mapping[str, int]


class SampleSource(Protocol):
    """Reads samples of training data."""

    def check(self, uri: str) -> None:
        """Raises INVALID_FIELD where the URI can name no sample that it may read."""
        ...

    async def read(self, uri: str) -> Summary:
        """The sample summed up. Raises INPUT_UNREADABLE, or INVALID_FIELD where the URI names no file that it may
        read."""
        ...


class DriftBoard(Protocol):
    """Shows operators what drifts. Never fails and never waits."""

    def drift(self, found: Sequence[Severities]) -> None:
        """Replaces what the newest reports say."""
        ...
