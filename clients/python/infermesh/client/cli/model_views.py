"""Models and versions as people see them."""

import json
from collections.abc import Mapping

from infermesh.client.cli.output import facts, quantity, state, table, when
from infermesh.common.v1 import schema_pb2
from infermesh.registry.v1 import model_pb2, model_version_pb2
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

_METADATA_SHOWN_MAX = 12
_METRICS_SHOWN_MAX = 3
_TEXT_SHOWN_MAX = 100


def registered(made: model_version_pb2.ModelVersion) -> RenderableType:
    """A version that was just registered, and what to do with it."""
    name, version = escape(made.model_name), escape(made.version)
    return Group(
        f"registered [bold]{name} {version}[/]: {escape(made.framework)}, {quantity(made.model_size_bytes)}",
        tensors_shown(made.schema),
        f"[dim]`infermesh deploy {name} {version}` makes it answer.[/]",
    )


def models_listed(models: list[model_pb2.Model]) -> RenderableType:
    """A table of models."""
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


def model_shown(model: model_pb2.Model, versions: list[model_version_pb2.ModelVersion]) -> RenderableType:
    """A model and its highest versions."""
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
    return Group(about, "", versions_listed(versions), *end)


def versions_listed(versions: list[model_version_pb2.ModelVersion], *, named: bool = False) -> RenderableType:
    """A table of versions; `named` where they are of several models."""
    if not versions:
        return "[dim]no versions[/]"
    shown = table(
        *(["model"] if named else []), "version", "stage", "size", "metrics", "aliases", "registered", right=["size"]
    )
    for one in versions:
        metrics = ", ".join(
            f"{name} {value:g}" for name, value in sorted(one.training_metrics.items())[:_METRICS_SHOWN_MAX]
        )
        shown.add_row(
            *([escape(one.model_name)] if named else []),
            escape(one.version),
            state(one.stage),
            quantity(one.model_size_bytes),
            escape(metrics),
            escape(", ".join(one.aliases)),
            when(one.created_at),
        )
    return shown


def version_shown(version: model_version_pb2.ModelVersion) -> RenderableType:
    """All that people want to know of a version."""
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
            ("explained by", f"{version.reference_rows} reference rows" if version.reference_rows else ""),
            ("features by", escape("; ".join(f"{view.entity} from {view.name}" for view in version.feature_views))),
            ("tags", escape(", ".join(version.tags))),
            ("aliases", escape(", ".join(version.aliases))),
            ("parent", escape(version.lineage.parent_version)),
            ("signature", _signature(version)),
            ("registered", when(version.created_at)),
        )
    )
    said = [
        (name, _short(value)) for name, value in sorted(version.metadata.items()) if name not in {"class_names", "tags"}
    ][:_METADATA_SHOWN_MAX]
    shown: list[RenderableType] = [about, "", tensors_shown(version.schema)]
    return Group(*shown, "", facts((escape(name), value) for name, value in said)) if said else Group(*shown)


def _signature(version: model_version_pb2.ModelVersion) -> str:
    if not version.HasField("signature"):
        return ""
    told = version.signature
    if told.verified:
        return f"[green]verified[/], by {escape(told.signer)}"
    return f"[red]not verified[/]: {escape(told.problem)}"


def tensors_shown(schema: schema_pb2.ModelSchema) -> Table:
    """A table of what a version takes and gives."""
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
