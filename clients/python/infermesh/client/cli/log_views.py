"""The prediction log as people read it."""

import json
from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict
from infermesh.client.cli.figures import count
from infermesh.client.cli.output import facts, state, table, when
from infermesh.monitor.v1 import inference_log_pb2
from rich.console import RenderableType
from rich.markup import escape

_OUTPUT_SHOWN_MAX = 60


def listed(entries: Sequence[inference_log_pb2.InferenceLog]) -> RenderableType:
    """A table, with the columns of which there is anything."""
    if not entries:
        return "[dim]nothing was logged of that[/]"
    users, outputs = any(one.user_id for one in entries), any(one.HasField("output") for one in entries)
    more = [name for name, there in (("user", users), ("output", outputs)) if there]
    shown = table("when", "request", "version", "ms", "result", *more, right=["ms"])
    for one in entries:
        cells = [
            when(one.timestamp),
            escape(one.request_id),
            escape(one.version),
            f"{one.latency_ms:.1f}",
            _result(one),
        ]
        cells += [escape(one.user_id)] if users else []
        cells += [escape(_output(one))] if outputs else []
        shown.add_row(*cells)
    return shown


def entry_line(entry: inference_log_pb2.InferenceLog) -> str:
    """One entry on one line."""
    parts = [when(entry.timestamp), escape(entry.request_id), escape(entry.version), f"{entry.latency_ms:.1f} ms"]
    return "  ".join([*parts, _result(entry), *filter(None, (escape(entry.user_id), escape(_output(entry))))])


def export_shown(export: inference_log_pb2.LogExport) -> RenderableType:
    """How far an export is."""
    rows = [
        ("export", escape(export.export_id)),
        ("status", state(export.status)),
        ("folder", escape(export.output_uri)),
        ("format", export.format),
        ("from", when(export.start_time)),
        ("until", when(export.end_time)),
        ("rows", count(export.row_count)),
    ]
    return facts([*rows, ("why", escape(export.status_message))] if export.status_message else rows)


def policy_shown(policy: inference_log_pb2.LoggingPolicy) -> RenderableType:
    """What is logged."""
    of = f"{policy.model_name} {policy.version}" if policy.version else f"{policy.model_name}, every version"
    return facts(
        [
            ("of", escape(of)),
            ("share", f"{policy.sample_rate:.4g} of the successful requests, all that fail"),
            ("input hash", "yes" if policy.log_input_hash else "no"),
            ("output", "yes" if policy.log_output else "no"),
            ("redacted", escape(", ".join(policy.redacted_fields)) or "[dim]nothing[/]"),
            ("etag", f"{policy.etag}" if policy.etag != "0" else "0 [dim](inherited)[/]"),
        ]
    )


def _result(entry: inference_log_pb2.InferenceLog) -> str:
    if entry.error_message:
        return f"[red]{escape(entry.error_message)}[/]"
    kind = entry.metadata.get("kind", "")
    return f"ok [dim]{escape(kind)}[/]" if kind else "ok"


def _output(entry: inference_log_pb2.InferenceLog) -> str:
    if not entry.HasField("output"):
        return ""
    text = json.dumps(MessageToDict(entry.output), separators=(",", ":"))
    return text if len(text) <= _OUTPUT_SHOWN_MAX else text[: _OUTPUT_SHOWN_MAX - 1] + "…"
