"""`infermesh features`: the rows that batchers add to requests from Redis."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from infermesh.client.cli.feature_rows import AT_DEFAULT, feature_rows
from infermesh.client.cli.output import table
from infermesh.client.cli.session import ModelArgument, Session, VersionArgument, command
from infermesh.client.feature_store import STORE_DEFAULT, TTL_DEFAULT_S, FeatureStore, StoredFeatures
from infermesh.common.v1 import feature_pb2
from infermesh.registry.v1 import model_version_pb2
from rich.console import RenderableType
from rich.markup import escape

VARIABLE_STORE = "INFERMESH_FEATURE_STORE"

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help=f"Default: {VARIABLE_STORE}, else {STORE_DEFAULT}.", show_default=False
    ),
]
ViewOption = Annotated[
    str, typer.Option("--view", metavar="VIEW", help="One of the version's views; needed where it has several.")
]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    group = typer.Typer(name="features", help="Write and read the features that are added to requests.")

    @command(group, "put", epilog="Example: infermesh features put ads v1.0.0 stats.csv --view user_stats --ttl 86400")
    def put(
        session: Session,
        model: ModelArgument,
        version: VersionArgument,
        file: Annotated[
            Path, typer.Argument(metavar="FILE", help="Rows: JSON, JSON Lines, CSV or Parquet.", show_default=False)
        ],
        *,
        view: ViewOption = "",
        at: Annotated[
            str,
            typer.Option(
                metavar="COLUMN", help=f"Since when a row holds. Default: {AT_DEFAULT}, where there is one, else now."
            ),
        ] = "",
        ttl: Annotated[
            int, typer.Option(metavar="SECONDS", min=0, help="How long rows stay; 0: for good.")
        ] = TTL_DEFAULT_S,
        store: StoreOption = None,
    ) -> None:
        """Write rows of a version's feature view, by the view's own types."""
        found = session.client.models.version(model, version)
        chosen = _view(found, view)
        rows = feature_rows(file, chosen, at=at)
        with _open(store, found, session) as writer:
            count = writer.put(chosen.name, chosen.entity, rows, ttl_s=ttl)
        stays = f"for {ttl} s" if ttl else "for good"
        session.output.result(
            {"view": chosen.name, "entity": chosen.entity, "rows": count, "ttl_s": ttl},
            lambda: f"wrote {count} rows of [bold]{escape(chosen.name)}[/], by {escape(chosen.entity)}, {stays}",
        )

    @command(group, "get", epilog="Example: infermesh features get ads v1.0.0 42")
    def get(
        session: Session,
        model: ModelArgument,
        version: VersionArgument,
        entity_id: Annotated[str, typer.Argument(metavar="ID", help="Whose features.", show_default=False)],
        *,
        view: ViewOption = "",
        store: StoreOption = None,
    ) -> None:
        """Show what is stored of one entity, as requests would find it."""
        found = session.client.models.version(model, version)
        views = [_view(found, view)] if view else list(found.feature_views)
        with _open(store, found, session) as reader:
            stored = {one.name: reader.get(one.entity, entity_id).get(one.name) for one in views}
        session.output.result(
            {"entity_id": entity_id, "views": {name: _plain(row) for name, row in stored.items()}},
            lambda: _shown(views, stored),
        )

    app.add_typer(group)


def _open(store: str | None, version: model_version_pb2.ModelVersion, session: Session) -> FeatureStore:
    url = store or os.environ.get(VARIABLE_STORE) or STORE_DEFAULT
    return FeatureStore(url, team=version.team, timeout_s=session.timeout_s)


def _view(version: model_version_pb2.ModelVersion, name: str) -> feature_pb2.FeatureView:
    views = {view.name: view for view in version.feature_views if view.store == "redis"}
    if not name and len(views) == 1:
        return next(iter(views.values()))
    if name not in views:
        of_it = f"{version.model_name} {version.version}"
        if not views:
            problem = f"{of_it} has no feature view that is kept in Redis; register a version with --features"
            raise typer.BadParameter(problem, param_hint="VERSION")
        problem = f"{of_it} has no view {name}" if name else f"{of_it} has several views; say which"
        raise typer.BadParameter(f"{problem}; it has: {', '.join(views)}", param_hint="--view")
    return views[name]


def _plain(row: StoredFeatures | None) -> Mapping[str, object] | None:
    if row is None:
        return None
    return {"features": row.features, "at_s": row.at_s, "age_s": row.age_s, "left_s": row.left_s}


def _shown(views: list[feature_pb2.FeatureView], stored: Mapping[str, StoredFeatures | None]) -> RenderableType:
    shown = table("view", "feature", "value", "age", "stays", right=["age", "stays"])
    for view in views:
        row = stored[view.name]
        for feature in sorted(view.features):
            value = row.features.get(feature) if row is not None else None
            age = f"{row.age_s:.0f} s" if row is not None else ""
            stays = "" if row is None else "for good" if row.left_s is None else f"{row.left_s:.0f} s"
            text = "[dim]nothing[/]" if value is None else escape(str(value))
            shown.add_row(escape(view.name), escape(feature), text, age, stays)
    return shown
