"""Prometheus figures of jobs."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class PrometheusBoard:
    """A `Board`. Labels are bounded by the versions that jobs use and by the words of the contract."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._running = Gauge("batch_jobs_running", "Jobs that run in this process", registry=registry)
        self._ended = Counter(
            "batch_jobs_ended_total", "Jobs that ended in this process", ("status",), registry=registry
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

    def jobs_running(self, count: int) -> None:
        """So many jobs run in this process."""
        self._running.set(count)

    def job_ended(self, status: str) -> None:
        """A job ended here."""
        self._ended.labels(status).inc()

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
