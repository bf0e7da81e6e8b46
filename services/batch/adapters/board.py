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

    def retried(self, reason: str) -> None:
        """A request is sent again."""
        self._retries.labels(reason).inc()
