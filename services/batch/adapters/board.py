"""Prometheus figures of jobs."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.batch.domain.job import Status
from services.batch.domain.notices import Means
from services.batch.ports_backlog import Backlog
from services.common.errors import Reason


class PrometheusBoard:
    """A `Board`. Labels are bounded by the versions that jobs use and by the words of the contract."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._running = Gauge("batch_jobs_running", "Jobs that run in this process", registry=registry)
        self._ended = Counter(
            "batch_jobs_ended_total", "Jobs that ended in this process", ("status",), registry=registry
        )
        self._open = Gauge(
            "batch_jobs_open",
            "Jobs that have not ended, over all processes, by how they are",
            ("status",),
            registry=registry,
        )
        self._chunks = Gauge(
            "batch_chunks_open",
            "Chunks of running jobs that are not done, over all processes, by what becomes of them",
            ("state",),
            registry=registry,
        )
        self._leases = Counter(
            "batch_chunk_leases_total", "Leases of chunks that this process gave out", ("outcome",), registry=registry
        )
        self._rows = Counter(
            "batch_rows_total", "Rows that are done", ("model", "version", "outcome"), registry=registry
        )
        self._retries = Counter(
            "batch_request_retries_total", "Requests that were sent again", ("reason",), registry=registry
        )

        self._told = Counter(
            "batch_notifications_total", "Tries to tell somebody of a job", ("means", "outcome"), registry=registry
        )
        self._runs = Counter(
            "batch_schedule_runs_total", "Moments of schedules that came", ("outcome",), registry=registry
        )
        self._letters = Gauge(
            "batch_notifications_waiting", "Notifications that are not sent and not given up", registry=registry
        )

        self._begin_at_0()

    def _begin_at_0(self) -> None:
        """Shows what has not happened yet as 0: without, the first of each would be no growth to Prometheus."""
        for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED):
            self._ended.labels(status)
        for outcome in ("given", "done", "failed", "given_back", "lost"):
            self._leases.labels(outcome)
        for outcome in ("made", "skipped", "failed"):
            self._runs.labels(outcome)
        for means in Means:
            for outcome in ("sent", "postponed", "given_up"):
                self._told.labels(means, outcome)
        self._retries.labels(Reason.QUEUE_FULL)

    def jobs_running(self, count: int) -> None:
        """So many jobs run in this process."""
        self._running.set(count)

    def job_ended(self, status: str) -> None:
        """A job ended here."""
        self._ended.labels(status).inc()

    def backlog(self, backlog: Backlog) -> None:
        """This has not ended."""
        self._open.labels("pending").set(backlog.pending)
        self._open.labels("running").set(backlog.running)
        self._open.labels("paused").set(backlog.paused)
        self._chunks.labels("leased").set(backlog.chunks_leased)
        self._chunks.labels("waiting").set(backlog.chunks_waiting)

    def leases(self, outcome: str, count: int) -> None:
        """Leases of chunks began or ended."""
        self._leases.labels(outcome).inc(count)

    def rows(self, model: str, version: str, *, predicted: int, failed: int) -> None:
        """A chunk was done."""
        self._rows.labels(model, version, "predicted").inc(predicted)
        self._rows.labels(model, version, "failed").inc(failed)

    def retried(self, reason: str, count: int = 1) -> None:
        """Requests are sent again."""
        self._retries.labels(reason).inc(count)

    def told(self, means: str, outcome: str) -> None:
        """A notification was tried."""
        self._told.labels(means, outcome).inc()

    def schedule_ran(self, outcome: str) -> None:
        """A moment of a schedule came."""
        self._runs.labels(outcome).inc()

    def letters_waiting(self, count: int) -> None:
        """So many have not ended."""
        self._letters.set(count)
