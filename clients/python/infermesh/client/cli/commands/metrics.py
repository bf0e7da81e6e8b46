"""`infermesh metrics`: how a model does."""

from typing import Annotated

import typer
from infermesh.client.cli.output import bar, table
from infermesh.client.cli.quantities import now, parse_length
from infermesh.client.cli.session import ModelArgument, Session, VersionOption, command
from infermesh.monitor.v1 import model_metrics_pb2
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

_CLASSES_SHOWN_MAX = 20


def add_to(app: typer.Typer) -> None:
    """Registers the command."""

    @command(app, "metrics", epilog="Example: infermesh metrics digits --last 15m")
    def metrics(
        session: Session,
        model: ModelArgument,
        version: VersionOption = "",
        last: Annotated[str, typer.Option(metavar="TIME", help="How far back: 30m, 6h, 7d.")] = "1h",
    ) -> None:
        """Show requests, errors, latency and the distribution of answers, in total and by version."""
        start = now() - parse_length(last, "--last", example="30m, 6h or 7d")
        total = session.client.metrics.get(model, version=version, start=start)
        parts = [] if version else list(session.client.metrics.by_version(model, start=start))
        value = total if version else {"total": total, "versions": parts}
        session.output.result(value, lambda: _drawn(total, parts, last))


def _drawn(
    total: model_metrics_pb2.ModelMetrics, versions: list[model_metrics_pb2.ModelMetrics], last: str
) -> RenderableType:
    if total.metrics.request_count == 0:
        return f"[dim]{escape(total.model_name)} took no requests in the last {last}[/]"
    numbers = ["requests", "errors", "per second", "p50 ms", "p95 ms", "p99 ms"]
    figures = table("version", *numbers, right=numbers)
    for item in versions:
        _add_row(figures, item.version, item.metrics)
    if len(versions) != 1:
        _add_row(figures, total.version or "all", total.metrics)
    shares = table("class", "share", "", right=["share"])
    ranked = sorted(total.metrics.prediction_distribution.items(), key=lambda pair: (-pair[1], pair[0]))
    for name, share in ranked[:_CLASSES_SHOWN_MAX]:
        shares.add_row(name, f"{share:.1%}", f"[cyan]{bar(share)}[/]")
    used = total.resource_usage
    gpus = f", GPUs {used.gpu_utilization:.0f} %" if used.HasField("gpu_utilization") else ""
    resources = f"[dim]hosts: CPU {used.cpu_percent:.0f} %, memory {used.memory_percent:.0f} %{gpus}[/]"
    return Group(figures, "", shares, resources) if ranked else Group(figures, resources)


def _add_row(figures: Table, name: str, metrics: model_metrics_pb2.Metrics) -> None:
    latency = metrics.latency
    errors = f"{metrics.error_count:.0f}"
    if metrics.error_count:
        errors = f"[red]{errors} ({metrics.error_rate:.2%})[/]"
    figures.add_row(
        name,
        f"{metrics.request_count:.0f}",
        errors,
        f"{metrics.throughput_per_sec:.3g}",
        *(f"{value:.1f}" for value in (latency.p50, latency.p95, latency.p99)),
    )
