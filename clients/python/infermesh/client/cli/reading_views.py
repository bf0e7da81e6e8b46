"""What is seen in artifacts, what breaks callers, and what became of imports, as people see them."""

from collections import Counter
from collections.abc import Sequence

from infermesh.client.cli.model_views import tensors_shown
from infermesh.client.cli.output import facts, quantity, table
from infermesh.registry.v1 import artifact_pb2, registry_service_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

_OUTCOMES = {"registered": "green", "present": "dim", "skipped": "yellow", "failed": "red"}


def report_shown(report: artifact_pb2.ArtifactReport) -> RenderableType:
    """What the registry sees in an artifact."""
    artifact = report.artifact
    about = facts(
        (
            ("framework", escape(f"{report.framework} {report.framework_version}".strip()) or "not recognised"),
            ("artifact", escape(artifact.artifact_uri)),
            ("name", escape(artifact.filename)),
            ("kind", escape(artifact.kind)),
            ("size", quantity(artifact.size_bytes)),
            ("used by", f"{artifact.version_count} versions" if artifact.version_count else ""),
            ("prediction", escape(report.mapping.output_tensor)),
            ("classes", escape(", ".join(report.mapping.class_names))),
        )
    )
    shown: list[RenderableType] = [about]
    if report.HasField("schema"):
        shown += ["", tensors_shown(report.schema)]
    shown += [f"[red]problem[/]: {escape(problem)}" for problem in report.problems]
    return Group(*shown)


def comparison_shown(
    model: str, version: str, comparison: registry_service_pb2.CompareSchemasResponse
) -> RenderableType:
    """How a version's schema differs from another's, breaking differences first."""
    base = escape(comparison.base_version)
    verdict = "[green]may be sent to[/]" if comparison.compatible else "[red]are broken by[/]"
    title = f"callers of {escape(model)} {base} {verdict} {escape(version)}"
    if not comparison.changes:
        return f"{title}: the schemas are the same"
    shown = table("tensor", "side", "change", "before", "after", "breaks", "what to do")
    for one in comparison.changes:
        shown.add_row(
            escape(one.name),
            escape(one.side),
            escape(one.kind),
            escape(one.before),
            escape(one.after),
            "[red]yes[/]" if one.breaking else "no",
            escape(one.advice),
        )
    return Group(title, "", shown)


def imports_listed(versions: Sequence[registry_service_pb2.ImportedVersion], *, dry_run: bool) -> RenderableType:
    """What became of each version of an import, or would."""
    if not versions:
        return "[dim]nothing to import is there[/]"
    shown = table("there", "model", "version", "outcome", "why")
    for one in versions:
        colour = _OUTCOMES.get(one.outcome, "default")
        shown.add_row(
            escape(one.source_name),
            escape(one.model_name),
            escape(one.version),
            f"[{colour}]{escape(one.outcome)}[/]",
            escape(one.message),
        )
    counted = Counter(one.outcome for one in versions)
    total = ", ".join(f"{count} {outcome}" for outcome, count in counted.items())
    return Group(shown, "", f"[dim]{total}{'; nothing was done' if dry_run else ''}[/]")
