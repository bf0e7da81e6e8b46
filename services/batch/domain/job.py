"""A job as a value: what was asked, and how far it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from services.batch.domain.pace import Mark, left_s, rows_per_s
from services.common.access.book import Sight
from services.common.errors import MeshError, Reason, shown
from services.common.feature_view import FeatureView
from services.common.schema import ModelSchema, PredictionMapping

LOCAL = "local"
_ID_SHOWN_MAX = 128
_KEY_PREFIX = "key:"
"""What `Identity.actor` puts before the id of a key that acts for no user."""


class Status(StrEnum):
    """The words of the public contract."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to the job any more, unless someone retries it."""
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class Format(StrEnum):
    """A file format, named by its usual ending."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


class Compression(StrEnum):
    """How a text file is packed. Parquet packs inside and is always `NONE`."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    BZ2 = "bz2"


@dataclass(frozen=True, slots=True)
class Version:
    """The version that a job is pinned to."""

    model: str
    version: str
    artifact_digest: str
    schema: ModelSchema
    mapping: PredictionMapping
    feature_views: tuple[FeatureView, ...] = ()
    reference_digest: str = ""
    """Of the sample that its predictions are explained against. Empty: it has none."""


@dataclass(frozen=True, slots=True)
class FeatureJoin:
    """Where features of the version were kept over time. Rows get what held at their own moment."""

    uri: str
    path: str
    format: Format
    entity: str
    """The column of the source, and of the input, that says whose features they are."""
    timestamp_column: str
    features: tuple[str, ...] = ()
    """The source's columns that are features. Empty: those of `inputs` that it has and the input has not."""
    inputs: tuple[str, ...] = ()
    """The version's inputs."""
    texts: tuple[str, ...] = ()
    """Those of them that are texts."""
    optional: tuple[str, ...] = ()
    """Those of them that may be left out."""
    asked_age_s: float = 0.0
    """The oldest that any value may be, as the caller said; 0: he did not."""
    max_age_s: Mapping[str, float] = field(default_factory=dict)
    """The oldest that a value may be, by feature; none: any age."""
    defaults: Mapping[str, object] = field(default_factory=dict)
    """Values for rows that have none, by feature."""


@dataclass(frozen=True, slots=True)
class NamedColumn:
    """A column that is looked for by name: a feature's, the key's, one that is copied."""

    name: str
    spread: int = 0
    """Of a feature that may be spread over columns: how many, called "X_0" or "X.0" and so on."""
    optional: bool = False
    """Whether some files may have it and others not."""


@dataclass(frozen=True, slots=True)
class Input:
    """Where the rows are and how they are read. An empty `key_column` means: find one."""

    uri: str
    path: str
    """A file, a folder or a pattern: an absolute path, or s3:// or gs:// with bucket and key. With "/" at its end it
    is a folder."""
    format: Format | None
    """None: as the files of the folder are called."""
    key_column: str = ""
    feature_columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ","
    header: bool = True
    event_time_column: str = ""
    joins: tuple[FeatureJoin, ...] = ()
    compression: Compression | None = None
    """None: as each file's ending says."""
    named: tuple[NamedColumn, ...] = ()
    """What is looked for by name, as far as the version and the caller say."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where the predictions go and how they are written."""

    uri: str
    path: str
    """An absolute path, or s3:// or gs:// with bucket and key."""
    format: Format
    overwrite: bool = False
    compression: Compression = Compression.NONE
    columns: tuple[str, ...] = ()
    """Columns of the input that are copied beside the key."""
    explain: bool = False
    """Whether it says how much each feature contributed to each prediction."""

    @property
    def errors_path(self) -> str:
        """Where the rows go that could not be predicted."""
        return f"{self.path}.errors.jsonl"

    @property
    def errors_uri(self) -> str:
        """The same as the caller wrote the output."""
        return f"{self.uri}.errors.jsonl"


@dataclass(frozen=True, slots=True)
class Notice:
    """Whom to tell of a job, by which means, of which statuses."""

    means: str
    address: str
    statuses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What was asked, checked and with its defaults filled in. Times are in minutes."""

    job_name: str
    version: Version
    input: Input
    output: Output
    batch_size: int
    max_parallelism: int
    timeout_minutes: int
    max_failed_fraction: float = 1.0
    all_may_fail: bool = False
    """Whether a job of which no row at all is predicted is none that failed: the caller said so, by a fraction of 1."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    notify_on_completion: str = ""
    """The e-mail address that is told of the end. Empty: none."""
    notices: tuple[Notice, ...] = ()
    """Who else is told, and of what."""
    runtime: str = LOCAL
    """Where its work runs: on this machine, or the name of a Kubernetes cluster."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What some work cost: requests, and seconds summed over what ran at once."""

    requests: int = 0
    retries: int = 0
    latency_ms_sum: float = 0.0
    read_s: float = 0.0
    predict_s: float = 0.0
    write_s: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.requests + other.requests,
            self.retries + other.retries,
            self.latency_ms_sum + other.latency_ms_sum,
            self.read_s + other.read_s,
            self.predict_s + other.predict_s,
            self.write_s + other.write_s,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is stored. `running_s` is the time in which it ran, over all processes that ran it."""

    job_id: str
    spec: JobSpec
    status: Status
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    paused: bool = False
    attempt: int = 1
    total_rows: int = 0
    processed_rows: int = 0
    failed_rows: int = 0
    total_chunks: int = 0
    completed_chunks: int = 0
    running_s: float = 0.0
    spent: Spent = Spent()
    error_reason: str = ""
    error_message: str = ""
    created_by: str = ""
    team: str = ""
    revision: int = 1
    sequence: int = 0
    """Grows with every job that is made: the order of lists."""
    schedule_id: str = ""
    """The schedule that made it. Empty: a caller did."""
    pace: tuple[Mark, ...] = ()
    """How many rows were done when, the oldest first."""

    @property
    def user(self) -> str:
        """The user who made it. Empty: a program's key did, or nobody knows."""
        return "" if self.created_by.startswith(_KEY_PREFIX) else self.created_by

    def seen_by(self, sight: Sight) -> bool:
        """Whether it is of the caller's team, and of a model that the caller sees."""
        return sight.everything or (
            bool(self.team) and self.team == sight.team and sight.shows(self.spec.version.model)
        )

    @property
    def etag(self) -> str:
        """Changes with what is asked of the job, not with its progress."""
        return f"r{self.revision}"

    @property
    def rows_per_s(self) -> float:
        """Rows per second: of late while it has not ended, over all the time in which it ran once it has. 0 before the
        first."""
        mean = self.processed_rows / self.running_s if self.running_s > 0 else 0.0
        if self.status.ended:
            return mean
        return rows_per_s(self.pace, total_rows=self.total_rows, running_s=self.running_s) or mean

    @property
    def percent(self) -> float:
        """0 to 100, two digits, and 100 only when every row is done."""
        if self.total_rows == 0:
            return 100.0 if self.status is Status.COMPLETED else 0.0
        if self.processed_rows >= self.total_rows:
            return 100.0
        return math.floor(10_000 * self.processed_rows / self.total_rows) / 100

    def estimated_end(self, now: datetime) -> datetime | None:
        """When the job will end if it goes on as it does. None: it has ended, or there is nothing to tell from."""
        if self.status.ended or self.paused:
            return None
        # The time in which it ran is as old as its last change.
        running_s = self.running_s
        if self.status is Status.RUNNING:
            running_s += max(0.0, (now - self.updated_at).total_seconds())
        seconds = left_s(self.pace, total_rows=self.total_rows, running_s=running_s)
        return None if seconds is None else now + timedelta(seconds=seconds)


def check_not_ended(job: Job, wish: str) -> None:
    """Raises JOB_STATE_INVALID where the job has ended and so cannot be changed as `wish` says."""
    if job.status.ended:
        raise state_invalid(job, wish, "it has ended; make another job, or retry it if it failed or was cancelled")


def check_changeable(job: Job) -> None:
    """Raises JOB_STATE_INVALID where the job is completed. One that failed or was cancelled may be begun again, with
    what made it fail changed."""
    if job.status is Status.COMPLETED:
        raise state_invalid(job, "changed", "its output is there; make another job")


def check_retryable(job: Job) -> None:
    """Raises JOB_STATE_INVALID where the job neither failed nor was cancelled."""
    if job.status not in (Status.FAILED, Status.CANCELLED):
        raise state_invalid(job, "retried", "only a failed or cancelled job can be begun again")


def state_invalid(job: Job, wish: str, why: str) -> MeshError:
    """JOB_STATE_INVALID in the usual words."""
    return MeshError(
        Reason.JOB_STATE_INVALID,
        f"job {job.job_id} is {job.status} and cannot be {wish}: {why}",
        metadata={"job_id": job.job_id, "status": job.status},
    )


def job_not_found(job_id: str) -> MeshError:
    """JOB_NOT_FOUND in the usual words."""
    return MeshError(
        Reason.JOB_NOT_FOUND,
        f"there is no batch job {shown(job_id)}; ListBatchJobs shows those that there are",
        metadata={"job_id": job_id[:_ID_SHOWN_MAX]},
    )


def request_id_reused(request_id: str, job_id: str) -> MeshError:
    """REQUEST_ID_REUSED in the usual words."""
    return MeshError(
        Reason.REQUEST_ID_REUSED,
        f"request_id {request_id!r} made job {job_id} for another wish; use a new one",
        metadata={"job_id": job_id},
    )


def output_taken(uri: str) -> MeshError:
    """OUTPUT_UNWRITABLE for an output that a job which has not ended will write."""
    named = f"output_uri {uri!r}" if uri else "the job's output"
    return MeshError(
        Reason.OUTPUT_UNWRITABLE,
        f"{named} is the output of another job that has not ended; name another, or cancel that job",
        metadata={"output_uri": uri} if uri else {},
    )


def too_many_failed(failed_rows: int, total_rows: int, allowed: float) -> bool:
    """Whether more of the job's rows have failed than are allowed, however the rest turns out."""
    return failed_rows > allowed * total_rows


def none_predicted(failed_rows: int, total_rows: int) -> bool:
    """Whether there were rows, and each of them failed."""
    return 0 < total_rows <= failed_rows
