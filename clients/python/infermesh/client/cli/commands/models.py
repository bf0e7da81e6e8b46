"""`infermesh register` and `infermesh models`: what is registered."""

import json
from collections.abc import Mapping
from typing import Annotated

import typer
from infermesh.client.cli.documents import read_document
from infermesh.client.cli.output import facts, quantity, state, table, when
from infermesh.client.cli.session import ModelArgument, Session, VersionArgument, command
from infermesh.common.v1 import schema_pb2
from infermesh.registry.v1 import model_pb2, model_version_pb2
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

_VERSIONS_SHOWN_MAX = 10
_METADATA_SHOWN_MAX = 12
_TEXT_SHOWN_MAX = 100


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
        session.output.result({"models": models}, lambda: _listed(models))

    @command(group, "show", epilog="Examples: infermesh models show digits · infermesh models show digits v1.0.0")
    def show(
        session: Session,
        model: ModelArgument,
        version: Annotated[
            str | None,
            typer.Argument(metavar="[VERSION]", help='A version, "latest", or an alias.', show_default=False),
        ] = None,
    ) -> None:
        """Show a model and its versions; with VERSION, what it takes, gives, and was made from."""
        if version is not None:
            found = session.client.models.version(model, version)
            session.output.result({"version": found}, lambda: _version_shown(found))
            return
        one = session.client.models.get(model)
        versions = list(session.client.models.versions(model, limit=_VERSIONS_SHOWN_MAX))
        session.output.result({"model": one, "versions": versions}, lambda: _shown(one, versions))

    @command(group, "versions")
    def versions(
        session: Session,
        model: ModelArgument,
        stage: Annotated[str, typer.Option(metavar="STAGE", help="Only in this stage.")] = "",
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 200,
    ) -> None:
        """List the versions of a model, the highest first."""
        found = list(session.client.models.versions(model, stage=stage, limit=limit))
        session.output.result({"versions": found}, lambda: _versions_listed(found))

    app.add_typer(group)


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
            str, typer.Argument(metavar="ARTIFACT", help="The model's file: a path or a URI.", show_default=False)
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
    ) -> None:
        """Register a version of a model, and the model where it is new.

        An ONNX file states its tensors itself. Versions never change: new content is a new version.
        """
        document = read_document(metadata, "--metadata") if metadata else {}
        known = completed(document, tags=tag or (), classes=class_ or ())
        made = session.client.models.register(
            model,
            version,
            artifact,
            framework=framework or _text(document, "framework"),
            framework_version=framework_version or _text(document, "framework_version"),
            metadata=known or None,
            description=description,
        )
        session.output.result(made, lambda: _registered(made))


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


def _registered(made: model_version_pb2.ModelVersion) -> RenderableType:
    name, version = escape(made.model_name), escape(made.version)
    return Group(
        f"registered [bold]{name} {version}[/]: {escape(made.framework)}, {quantity(made.model_size_bytes)}",
        _tensors(made.schema),
        f"[dim]`infermesh deploy {name} {version}` makes it answer.[/]",
    )


def _listed(models: list[model_pb2.Model]) -> RenderableType:
    if not models:
        return "[dim]no models; `infermesh register MODEL VERSION ARTIFACT` makes one[/]"
    shown = table("model", "framework", "latest", "versions", "tags", "changed", right=["versions"])
    for model in models:
        shown.add_row(
            escape(model.name),
            escape(model.framework),
            escape(model.latest_version),
            str(model.version_count),
            escape(", ".join(model.tags)),
            when(model.updated_at),
        )
    return shown


def _shown(model: model_pb2.Model, versions: list[model_version_pb2.ModelVersion]) -> RenderableType:
    aliases = ", ".join(f"{name} → {version}" for name, version in sorted(model.aliases.items()))
    about = facts(
        (
            ("model", escape(model.name)),
            ("what for", escape(model.description)),
            ("framework", escape(model.framework)),
            ("team", escape(model.team)),
            ("tags", escape(", ".join(model.tags))),
            ("aliases", escape(aliases)),
            ("registered", when(model.created_at)),
        )
    )
    more = model.version_count - len(versions)
    end = [f"[dim]and {more} more: infermesh models versions {escape(model.name)}[/]"] if more > 0 else []
    return Group(about, "", _versions_listed(versions), *end)


def _versions_listed(versions: list[model_version_pb2.ModelVersion]) -> RenderableType:
    if not versions:
        return "[dim]no versions[/]"
    shown = table("version", "stage", "size", "metrics", "aliases", "registered", right=["size"])
    for one in versions:
        metrics = ", ".join(f"{name} {value:g}" for name, value in sorted(one.training_metrics.items())[:3])
        shown.add_row(
            escape(one.version),
            state(one.stage),
            quantity(one.model_size_bytes),
            escape(metrics),
            escape(", ".join(one.aliases)),
            when(one.created_at),
        )
    return shown


def _version_shown(version: model_version_pb2.ModelVersion) -> RenderableType:
    about = facts(
        (
            ("model", escape(version.model_name)),
            ("version", escape(version.version)),
            ("stage", state(version.stage)),
            ("framework", escape(f"{version.framework} {version.framework_version}")),
            ("artifact", escape(version.artifact_uri)),
            ("size", quantity(version.model_size_bytes)),
            ("SHA-256", escape(version.artifact_digest)),
            ("classes", escape(", ".join(version.mapping.class_names))),
            ("tags", escape(", ".join(version.tags))),
            ("aliases", escape(", ".join(version.aliases))),
            ("parent", escape(version.lineage.parent_version)),
            ("registered", when(version.created_at)),
        )
    )
    said = [
        (name, _short(value)) for name, value in sorted(version.metadata.items()) if name not in {"class_names", "tags"}
    ][:_METADATA_SHOWN_MAX]
    shown: list[RenderableType] = [about, "", _tensors(version.schema)]
    return Group(*shown, "", facts((escape(name), value) for name, value in said)) if said else Group(*shown)


def _tensors(schema: schema_pb2.ModelSchema) -> Table:
    shown = table("", "tensor", "type", "shape of a row", "allowed")
    for side, tensors in (("takes", schema.inputs), ("gives", schema.outputs)):
        for tensor in tensors:
            kind = schema_pb2.DataType.Name(tensor.data_type).removeprefix("DATA_TYPE_")
            shape = "one value" if not tensor.shape else " × ".join("any" if n < 0 else str(n) for n in tensor.shape)
            shown.add_row(side, escape(tensor.name), kind, shape, escape(_allowed(tensor)))
    return shown


def _allowed(tensor: schema_pb2.TensorSpec) -> str:
    words = [f"one of {', '.join(tensor.categories)}"] if tensor.categories else []
    low = f"{tensor.minimum:g}" if tensor.HasField("minimum") else ""
    high = f"{tensor.maximum:g}" if tensor.HasField("maximum") else ""
    if low or high:
        words.append(f"{low} to {high}" if low and high else f"from {low}" if low else f"up to {high}")
    if tensor.optional:
        words.append(f"optional, default {tensor.default_value}" if tensor.default_value else "optional")
    return "; ".join(words)


def _short(value: object) -> str:
    """A value of the metadata on one line, as JSON except for plain texts and numbers."""
    if isinstance(value, float):
        text = f"{value:g}"
    elif isinstance(value, str):
        text = value
    else:
        text = json.dumps(_plain(value), ensure_ascii=False)
    return escape(text if len(text) <= _TEXT_SHOWN_MAX else f"{text[: _TEXT_SHOWN_MAX - 1]}…")


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if hasattr(value, "values") and not isinstance(value, list | str):
        return [_plain(item) for item in value]  # type: ignore[attr-defined]
    return value
