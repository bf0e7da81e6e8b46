"""`infermesh register` and `infermesh models`: what is registered."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from infermesh.client.cli.commands.model_history import add_audit, add_history
from infermesh.client.cli.commands.model_reading import add_reading
from infermesh.client.cli.completion import complete_version
from infermesh.client.cli.documents import read_document
from infermesh.client.cli.model_views import model_shown, models_listed, registered, version_shown, versions_listed
from infermesh.client.cli.samples import read_sample
from infermesh.client.cli.session import ModelArgument, Session, VersionArgument, command
from infermesh.client.errors import InfermeshError
from infermesh.client.packing import pack
from infermesh.registry.v1 import model_version_pb2
from rich.markup import escape

_VERSIONS_SHOWN_MAX = 10


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    _add_register(app)
    group = typer.Typer(name="models", help="Look at what is registered.", no_args_is_help=True)

    @command(group, "list")
    def list_(
        session: Session,
        *,
        prefix: Annotated[str, typer.Option(metavar="TEXT", help="Only names that begin so.")] = "",
        framework: Annotated[str, typer.Option(metavar="NAME", help="Only of this framework.")] = "",
        tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Only with this tag; repeatable.")] = None,
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 200,
    ) -> None:
        """List the models, in alphabetical order."""
        models = list(session.client.models.list(prefix=prefix, framework=framework, tags=tag or (), limit=limit))
        session.output.result({"models": models}, lambda: models_listed(models))

    @command(group, "show", epilog="Examples: infermesh models show digits · infermesh models show digits v1.0.0")
    def show(
        session: Session,
        model: ModelArgument,
        version: Annotated[
            str | None,
            typer.Argument(
                metavar="[VERSION]",
                help='A version, "latest", or an alias.',
                show_default=False,
                autocompletion=complete_version,
            ),
        ] = None,
    ) -> None:
        """Show a model and its versions; with VERSION, what it takes, gives, and was made from."""
        if version is not None:
            found = session.client.models.version(model, version)
            session.output.result({"version": found}, lambda: version_shown(found))
            return
        one = session.client.models.get(model)
        versions = list(session.client.models.versions(model, limit=_VERSIONS_SHOWN_MAX))
        session.output.result({"model": one, "versions": versions}, lambda: model_shown(one, versions))

    @command(group, "versions")
    def versions(
        session: Session,
        model: ModelArgument,
        stage: Annotated[str, typer.Option(metavar="STAGE", help="Only in this stage.")] = "",
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 200,
    ) -> None:
        """List the versions of a model, the highest first."""
        found = list(session.client.models.versions(model, stage=stage, limit=limit))
        session.output.result({"versions": found}, lambda: versions_listed(found))

    _add_search(group)
    _add_changes(group)
    add_history(group)
    add_reading(group)
    app.add_typer(group)
    add_audit(app)


def _add_register(app: typer.Typer) -> None:
    @command(
        app,
        "register",
        epilog="Example: infermesh register iris v1.0.0 iris.onnx --class setosa --class versicolor --class virginica",
    )
    def register(
        session: Session,
        model: ModelArgument,
        version: VersionArgument,
        artifact: Annotated[
            str,
            typer.Argument(metavar="ARTIFACT", help="The file or folder: a path or a URI.", show_default=False),
        ],
        *,
        framework: Annotated[str, typer.Option(metavar="NAME", help="Default: what the artifact is.")] = "",
        framework_version: Annotated[str, typer.Option(metavar="TEXT", help="For instance 1.9.1.")] = "",
        metadata: Annotated[
            str,
            typer.Option(metavar="JSON", help="What is worth knowing: a JSON object, or `@PATH` of a file with one."),
        ] = "",
        description: Annotated[str, typer.Option(metavar="TEXT", help="What the model is for.")] = "",
        tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A word to find it by; repeatable.")] = None,
        class_: Annotated[
            list[str] | None,
            typer.Option("--class", metavar="NAME", help="A class, in the order of the probabilities; repeatable."),
        ] = None,
        reference: Annotated[
            Path | None,
            typer.Option(
                metavar="PATH",
                help="Rows of the training data (JSON, JSON Lines, CSV, Parquet); predictions are explained by them.",
            ),
        ] = None,
        reference_column: Annotated[
            list[str] | None,
            typer.Option(metavar="NAME", help="A feature among the file's columns; repeatable. Default: all of them."),
        ] = None,
        features: Annotated[
            str,
            typer.Option(
                metavar="JSON",
                help="Feature views to complete requests by: JSON, or `@PATH` of a file with `feature_views`.",
            ),
        ] = "",
    ) -> None:
        """Register a version of a model, and the model where it is new.

        An ONNX file states its tensors itself. A file that the registry cannot read is sent to it. Versions never
        change: new content is a new version.
        """
        document = read_document(metadata, "--metadata") if metadata else {}
        known = completed(document, tags=tag or (), classes=class_ or ())
        register_ = partial(
            session.client.models.register,
            model,
            version,
            framework=framework or _text(document, "framework"),
            framework_version=framework_version or _text(document, "framework_version"),
            metadata=known or None,
            description=description,
            reference=_sample(session, reference, reference_column or ()),
            feature_views=_views(features),
        )
        try:
            made = _sent_where_needed(session, artifact, register_)
        except InfermeshError as error:
            if error.reason == "SCHEMA_VIOLATION" and not reference_column:
                session.output.note("[dim]--reference-column NAME takes only those columns that are features[/]")
            raise
        session.output.result(made, lambda: registered(made))


def _views(argument: str) -> Sequence[Mapping[str, object]]:
    """The views of a document that has them as a version's registration has, or that is a single one."""
    if not argument:
        return ()
    document = read_document(argument, "--features")
    views = document.get("feature_views", [document])
    if not isinstance(views, list) or not all(isinstance(view, dict) for view in views):
        raise typer.BadParameter("feature_views must be a list of objects", param_hint="--features")
    return views


def _sample(session: Session, path: Path | None, columns: Sequence[str]) -> Sequence[Mapping[str, object]]:
    if path is None:
        return ()
    sample = read_sample(path, columns)
    if len(sample.instances) < sample.rows:
        session.output.note(f"[dim]the reference sample is {len(sample.instances)} of {sample.rows} rows[/]")
    return sample.instances


def _sent_where_needed(
    session: Session, artifact: str, register: Callable[..., model_version_pb2.ModelVersion]
) -> model_version_pb2.ModelVersion:
    """Registers by the place of the artifact, and sends it only where the registry has not the same file there."""
    file = Path(artifact).expanduser()
    if "://" in artifact or not file.exists() or not os.access(file, os.R_OK):
        return register(artifact)
    try:
        digest = pack(file).digest
    except (OSError, ValueError) as fault:
        raise typer.BadParameter(str(fault), param_hint="ARTIFACT") from None
    try:
        return register(artifact, digest=digest)
    except InfermeshError as error:
        if error.reason not in {"ARTIFACT_NOT_FOUND", "ARTIFACT_CORRUPT"}:
            raise
    session.output.note(f"[dim]the registry cannot read {escape(str(file))}; sending it[/]")
    return register(session.client.artifacts.upload(file).artifact_uri, digest=digest)


def _add_search(group: typer.Typer) -> None:
    @command(
        group,
        "search",
        epilog="""Example: infermesh models search digits --metric "accuracy > 0.9" --order "metric:accuracy desc" """,
    )
    def search(
        session: Session,
        words: Annotated[
            list[str] | None, typer.Argument(metavar="[WORDS]", help="What must occur in it.", show_default=False)
        ] = None,
        *,
        metric: Annotated[
            list[str] | None, typer.Option(metavar="COMPARISON", help='As "accuracy > 0.9"; repeatable.')
        ] = None,
        prefix: Annotated[str, typer.Option(metavar="TEXT", help="Only models whose names begin so.")] = "",
        tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Only with this tag; repeatable.")] = None,
        framework: Annotated[str, typer.Option(metavar="NAME", help="Only of this framework.")] = "",
        stage: Annotated[str, typer.Option(metavar="STAGE", help="Only in this stage.")] = "",
        team: Annotated[str, typer.Option(metavar="TEAM", help="Only of this team.")] = "",
        alias: Annotated[str, typer.Option(metavar="ALIAS", help="Only what this alias points to.")] = "",
        made_from: Annotated[
            list[str] | None,
            typer.Option("--from", metavar="NODE", help="Only what was made from it, as dataset:NAME; repeatable."),
        ] = None,
        latest: Annotated[bool, typer.Option("--latest", help="Only the highest of each model.")] = False,
        order: Annotated[
            str, typer.Option(metavar="FIELD", help='name, created_at, updated_at or metric:NAME; " desc" reverses.')
        ] = "",
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    ) -> None:
        """Find versions by what is known about them."""
        found = session.client.models.search(
            " ".join(words or ()),
            metrics=metric or (),
            prefix=prefix,
            tags=tag or (),
            framework=framework,
            stage=stage,
            team=team,
            alias=alias,
            lineage=made_from or (),
            latest_only=latest,
            order_by=order,
            limit=limit,
        )
        versions = list(found)
        session.output.result({"versions": versions}, lambda: versions_listed(versions, named=True))


def _add_changes(group: typer.Typer) -> None:
    @command(group, "stage", epilog="Example: infermesh models stage digits v1.0.0 deprecated --reason 'v1.1.0 is out'")
    def stage(
        session: Session,
        model: ModelArgument,
        version: VersionArgument,
        stage: Annotated[
            str, typer.Argument(metavar="STAGE", help="draft, active, deprecated or archived.", show_default=False)
        ],
        *,
        reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")] = "",
    ) -> None:
        """Move a version to another stage. What is archived cannot be deployed."""
        moved = session.client.models.set_stage(model, version, stage, reason=reason)
        session.output.result(moved, lambda: versions_listed([moved]))

    @command(group, "alias", epilog="Example: infermesh models alias digits champion v1.1.0")
    def alias(
        session: Session,
        model: ModelArgument,
        alias: Annotated[str, typer.Argument(metavar="ALIAS", help="For instance champion.", show_default=False)],
        version: VersionArgument,
        *,
        reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")] = "",
    ) -> None:
        """Point an alias at a version; it is made where it is new."""
        set_ = session.client.models.set_alias(model, alias, version, reason=reason)
        session.output.result(set_, lambda: f"{escape(set_.alias)} of {escape(model)} is {escape(set_.version)}")


def completed(
    document: Mapping[str, object], *, tags: "list[str] | tuple[str, ...]", classes: "list[str] | tuple[str, ...]"
) -> dict[str, object]:
    """The metadata of a registration. The document may be the metadata, or a whole registration that holds them."""
    inner = document.get("metadata")
    known: dict[str, object] = dict(inner if isinstance(inner, dict) else document)
    if tags:
        there = known.get("tags")
        known["tags"] = sorted({*(there if isinstance(there, list) else ()), *tags})
    if classes:
        known["class_names"] = list(classes)
    return known


def _text(document: Mapping[str, object], name: str) -> str:
    """A field of a whole registration; metadata alone have it for themselves."""
    value = document.get(name) if isinstance(document.get("metadata"), dict) else None
    return value if isinstance(value, str) else ""
