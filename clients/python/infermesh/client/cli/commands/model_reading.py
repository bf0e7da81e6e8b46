"""Of `infermesh models` what looks into artifacts, compares schemas, and brings in other registries."""

from typing import Annotated

import typer
from infermesh.client.cli.failures import ExitCode
from infermesh.client.cli.reading_views import comparison_shown, imports_listed, report_shown
from infermesh.client.cli.session import ModelArgument, Session, VersionArgument, command

_UriArgument = Annotated[str, typer.Argument(metavar="URI", show_default=False)]
_PrefixOption = Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Only models whose names begin so.")]
_DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def add_reading(group: typer.Typer) -> None:
    """Registers the commands among those of models."""

    @command(group, "inspect", epilog="Example: infermesh models inspect ./model.onnx")
    def inspect(
        session: Session,
        artifact: Annotated[
            str,
            typer.Argument(
                metavar="PATH|URI", help="As for register: where the registry reads it.", show_default=False
            ),
        ],
        *,
        framework: Annotated[str, typer.Option(metavar="NAME", help="Read it as of this framework.")] = "",
    ) -> None:
        """Show what the registry sees in an artifact, without registering it. Leaves with 1 where that would fail."""
        report = session.client.models.inspect(artifact, framework=framework)
        session.output.result(report, lambda: report_shown(report))
        if report.problems:
            raise typer.Exit(ExitCode.FAILURE)

    @command(group, "compare", epilog="Example: infermesh models compare digits v1.1.0 --base v1.0.0")
    def compare(
        session: Session,
        model: ModelArgument,
        version: VersionArgument,
        *,
        base: Annotated[
            str, typer.Option(metavar="VERSION", help="What callers know. Default: the highest active one below.")
        ] = "",
    ) -> None:
        """Show what breaks callers of one version who are sent to another. Leaves with 1 where something does."""
        comparison = session.client.models.compare(model, version, base=base)
        session.output.result(comparison, lambda: comparison_shown(model, version, comparison))
        if not comparison.compatible:
            raise typer.Exit(ExitCode.FAILURE)

    _add_import(group)


def _add_import(group: typer.Typer) -> None:
    imports = typer.Typer(name="import", help="Register what another registry holds.", no_args_is_help=True)

    @command(imports, "mlflow", epilog="Example: infermesh models import mlflow http://mlflow.internal:5000 --dry-run")
    def mlflow(
        session: Session, uri: _UriArgument, *, prefix: _PrefixOption = "", dry_run: _DryRunOption = False
    ) -> None:
        """Bring in the models of an MLflow server, or of a folder of its file store."""
        _import(session, "mlflow", uri, prefix=prefix, dry_run=dry_run)

    @command(imports, "triton", epilog="Example: infermesh models import triton s3://models/repository")
    def triton(
        session: Session, uri: _UriArgument, *, prefix: _PrefixOption = "", dry_run: _DryRunOption = False
    ) -> None:
        """Bring in the models of a model repository of Triton."""
        _import(session, "triton", uri, prefix=prefix, dry_run=dry_run)

    group.add_typer(imports)


def _import(session: Session, source: str, uri: str, *, prefix: str, dry_run: bool) -> None:
    versions = session.client.models.import_from(source, uri, prefix=prefix, dry_run=dry_run)
    session.output.result({"versions": list(versions)}, lambda: imports_listed(versions, dry_run=dry_run))
    if any(one.outcome == "failed" for one in versions):
        raise typer.Exit(ExitCode.FAILURE)
