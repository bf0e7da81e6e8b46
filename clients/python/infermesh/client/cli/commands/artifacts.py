"""`infermesh artifacts`: what models are made of, sent, fetched, looked into, cleared away."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from infermesh.client.artifacts import Progress, silent
from infermesh.client.cli.output import facts, quantity, table, when
from infermesh.client.cli.session import Session, command
from infermesh.client.models import artifact_uri
from infermesh.common.v1 import schema_pb2
from infermesh.registry.v1 import artifact_pb2, artifact_service_pb2
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

DigestArgument = Annotated[
    str, typer.Argument(metavar="DIGEST", help="Its SHA-256, or its artifact:// URI.", show_default=False)
]
ResumeOption = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on with what an earlier run of this began.")
]
_DIGESTS_SHOWN_MAX = 20


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="artifacts", help="Send and fetch what models are made of.", no_args_is_help=True)

    @command(group, "upload", epilog="Example: infermesh artifacts upload saved_model/")
    def upload(
        session: Session,
        path: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="What to send.", show_default=False)],
        *,
        resume: ResumeOption = True,
    ) -> None:
        """Send a file or a folder to the registry; what is printed can be registered."""
        try:
            with _bar(session, f"sending {path.name}") as progress:
                sent = session.client.artifacts.upload(path.expanduser(), resume=resume, progress=progress)
        except (OSError, ValueError) as fault:
            raise typer.BadParameter(_words(fault), param_hint="FILE|FOLDER") from None
        session.output.result(sent, lambda: artifact_shown(sent))

    @command(group, "download", epilog="Example: infermesh artifacts download DIGEST model.onnx")
    def download(
        session: Session,
        digest: DigestArgument,
        path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to put it.", show_default=False)],
        *,
        resume: ResumeOption = True,
    ) -> None:
        """Fetch an artifact, and check that it is the one."""
        try:
            with _bar(session, f"fetching {path.name}") as progress:
                made = session.client.artifacts.download(
                    _digest(digest), path.expanduser(), resume=resume, progress=progress
                )
        except OSError as fault:
            raise typer.BadParameter(_words(fault), param_hint="FILE") from None
        session.output.result({"path": str(made)}, lambda: escape(str(made)))

    @command(group, "show")
    def show(session: Session, digest: DigestArgument) -> None:
        """Show an artifact: its size, how it is stored, how many versions use it."""
        found = session.client.artifacts.get(_digest(digest))
        session.output.result(found, lambda: artifact_shown(found))

    @command(group, "inspect", epilog="Example: infermesh artifacts inspect s3://bucket/model.onnx")
    def inspect(
        session: Session,
        artifact: Annotated[
            str, typer.Argument(metavar="ARTIFACT", help="A path or a URI that the registry reads.", show_default=False)
        ],
        *,
        framework: Annotated[str, typer.Option(metavar="NAME", help="Read it as this. Default: what it is.")] = "",
    ) -> None:
        """Show what the registry sees in an artifact, and what stands in the way of registering it."""
        report = session.client.artifacts.inspect(artifact_uri(artifact), framework=framework)
        session.output.result(report, lambda: report_shown(report))

    @command(group, "gc", epilog="Example: infermesh artifacts gc --dry-run")
    def gc(
        session: Session,
        *,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    ) -> None:
        """Remove artifacts that no version uses and nobody wanted for a day. For operators of the mesh."""
        cleared = session.client.artifacts.collect_garbage(dry_run=dry_run)
        session.output.result(cleared, lambda: garbage_shown(cleared, dry_run=dry_run))

    app.add_typer(group)


def artifact_shown(artifact: artifact_pb2.Artifact) -> RenderableType:
    """An artifact's facts."""
    return facts(
        (
            ("artifact", escape(artifact.artifact_uri)),
            ("name", escape(artifact.filename)),
            ("kind", artifact.kind),
            ("size", quantity(artifact.size_bytes)),
            ("stored", quantity(artifact.stored_size_bytes)),
            ("versions", str(artifact.version_count)),
            ("since", when(artifact.created_at)),
        )
    )


def report_shown(report: artifact_pb2.ArtifactReport) -> RenderableType:
    """What is seen in an artifact: its facts, its tensors, what is wrong with it."""
    parts: list[RenderableType] = [artifact_shown(report.artifact)]
    framework = " ".join(word for word in (report.framework, report.framework_version) if word)
    parts.append(facts((("framework", escape(framework) or "none is recognised"),)))
    tensors = table("tensor", "side", "type", "shape")
    for side, specs in (("input", report.schema.inputs), ("output", report.schema.outputs)):
        for spec in specs:
            kind = schema_pb2.DataType.Name(spec.data_type).removeprefix("DATA_TYPE_")
            tensors.add_row(escape(spec.name), side, kind, str(list(spec.shape)))
    if tensors.row_count:
        parts.append(tensors)
    parts += [f"[red]✗[/] {escape(problem)}" for problem in report.problems]
    return Group(*parts)


def garbage_shown(cleared: artifact_service_pb2.CollectGarbageResponse, *, dry_run: bool) -> RenderableType:
    """What was cleared away, the first of it by name."""
    does = "would be removed" if dry_run else "removed"
    lines = [f"{cleared.artifact_count} artifacts {does}, {quantity(cleared.freed_bytes)}"]
    lines += [f"[dim]{digest}[/]" for digest in cleared.digests[:_DIGESTS_SHOWN_MAX]]
    return Group(*lines)


@contextlib.contextmanager
def _bar(session: Session, what: str) -> Iterator[Progress]:
    """A bar on standard error for people at a terminal."""
    output = session.output
    if output.as_json or not output.err.is_terminal:
        yield silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=output.err, transient=True) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)


def _digest(text: str) -> str:
    return text.removeprefix("artifact://sha256/")


def _words(fault: Exception) -> str:
    if isinstance(fault, OSError) and fault.strerror:
        return f"cannot use {fault.filename or 'it'}: {fault.strerror.lower()}"
    return str(fault)
