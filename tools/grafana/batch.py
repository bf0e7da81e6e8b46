"""The dashboard of whoever waits for a job: what waits and runs, how fast, what fails, who was told."""

from grafana_foundation_sdk.builders import dashboard

from tools.grafana.frame import Choice, Row, board
from tools.grafana.panels import HERE, Query, lines, number, rate, share

_ROWS = f'{HERE},model=~"$model"'


def _open_jobs(status: str) -> str:
    """Jobs that are so; every process shows the same."""
    return f'max(batch_jobs_open{{{HERE},status="{status}"}})'


def _jobs() -> Row:
    return Row(
        "Jobs",
        [
            *(
                number(title, Query(_open_jobs(status), title), unit="none", says=says)
                for title, status, says in (
                    ("Waiting", "pending", "Jobs that nobody carries yet."),
                    ("Running", "running", "Jobs that somebody carries."),
                    ("Paused", "paused", "Jobs that wait to be resumed."),
                )
            ),
            number(
                "Rows a second",
                Query(rate("batch_rows_total", _ROWS), "rows"),
                unit="none",
                says="Predicted and failed.",
            ),
            number(
                "Failing rows",
                Query(
                    share("batch_rows_total", f'{_ROWS},outcome="failed"', _ROWS),
                    "failing",
                ),
                unit="percentunit",
                says="Of all rows that are done. Each is listed with its reason: `infermesh batch failed JOB`.",
                limits=((0.01, "orange"), (0.1, "red")),
                decimals=2,
            ),
            number(
                "Notifications waiting",
                Query(f"max(batch_notifications_waiting{{{HERE}}})", "waiting"),
                unit="none",
                says="Not sent and not given up.",
                limits=((10, "orange"),),
            ),
            lines(
                "Open jobs",
                [Query(f"max by (status) (batch_jobs_open{{{HERE}}})", "{{status}}")],
                unit="none",
                says="Over all processes. Waiting without running: the batch service or its limits stand in the way.",
                stacked=True,
            ),
            lines(
                "Jobs that ended",
                [Query(f"sum by (status) (increase(batch_jobs_ended_total{{{HERE}}}[$__range]))", "{{status}}")],
                unit="none",
                says="Within the time that is shown, by how.",
            ),
            lines(
                "Runs of schedules",
                [Query(f"sum by (outcome) (increase(batch_schedule_runs_total{{{HERE}}}[$__range]))", "{{outcome}}")],
                unit="none",
                says="Within the time that is shown. Skipped: the run before was not over.",
            ),
        ],
    )


def _work() -> Row:
    return Row(
        "Work",
        [
            lines(
                "Rows by model",
                [Query(rate("batch_rows_total", _ROWS, by="model, version"), "{{model}} {{version}}")],
                unit="none",
                says="Rows a second.",
                stacked=True,
            ),
            lines(
                "Rows by outcome",
                [Query(rate("batch_rows_total", _ROWS, by="outcome"), "{{outcome}}")],
                unit="none",
                says="Rows a second.",
                stacked=True,
            ),
            lines(
                "Chunks",
                [Query(f"max by (state) (batch_chunks_open{{{HERE}}})", "{{state}}")],
                unit="none",
                says="Of running jobs: leased by a worker, or waiting for one.",
                stacked=True,
            ),
            lines(
                "Leases",
                [Query(rate("batch_chunk_leases_total", HERE, by="outcome"), "{{outcome}}")],
                unit="none",
                says="Of chunks, a second. Lost ones are done again: workers die or stand still.",
            ),
            lines(
                "Requests sent again",
                [Query(rate("batch_request_retries_total", HERE, by="reason"), "{{reason}}")],
                unit="reqps",
                says="Jobs get what is idle: QUEUE_FULL is them giving way to callers.",
            ),
            lines(
                "At the batcher, for these models",
                [
                    Query(f"sum(model_rows_waiting{{{_ROWS}}})", "rows waiting"),
                    Query(f"sum(model_rows_in_flight{{{_ROWS}}})", "rows at model servers"),
                ],
                unit="none",
                says="Of callers and of jobs.",
            ),
        ],
    )


def _told() -> Row:
    return Row(
        "Who is told",
        [
            lines(
                "Notifications",
                [Query(rate("batch_notifications_total", HERE, by="means, outcome"), "{{means}} {{outcome}}")],
                unit="none",
                says="Tries a second, by means and outcome.",
                width=12,
            ),
            lines(
                "Calls to the batch service that failed",
                [
                    Query(
                        rate(
                            "grpc_server_handled_total",
                            f'{HERE},method=~"/infermesh.batch.*",code!="OK"',
                            by="method, code",
                        ),
                        "{{method}} {{code}}",
                    )
                ],
                unit="reqps",
                says="By method and code.",
                width=12,
            ),
        ],
    )


def batch() -> dashboard.Dashboard:
    """The dashboard."""
    return board(
        "batch",
        "infermesh: batch",
        says="Jobs over files: what waits and runs, how fast, what fails, who was told.",
        rows=[_jobs(), _work(), _told()],
        choices=[Choice("model", f"batch_rows_total{{{HERE}}}")],
    )
